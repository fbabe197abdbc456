//! When a peer is late: the rules behind the heartbeat. Ticks in, action out.

use crate::clock::Ticks;

/// The deadlines of a peer, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Ping a peer that was quiet for this long.
    pub heartbeat: Option<Ticks>,
    /// From the ping to any sign of life.
    pub pong_timeout: Ticks,
    /// From the first byte of a message to its last.
    pub message_timeout: Option<Ticks>,
}

/// What is known of a peer at the time of a visit.
#[derive(Debug, Clone, Copy)]
pub struct Activity {
    /// When its first ping may go out.
    pub first_ping: Ticks,
    /// When it was last heard of.
    pub heard: Ticks,
    /// When the message began that is arriving now; 0 if none is.
    pub message_begun: Ticks,
    /// When it may not be here any longer; 0 if it always may.
    pub expires: Ticks,
    /// What became of the last ping.
    pub ping: PingState,
}

/// What the heartbeat needs to know of pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingState {
    /// None was ever sent.
    None,
    /// One waits behind what the socket does not take; the write deadline guards that.
    Waits,
    /// The last one left at this tick.
    Left(Ticks),
}

/// What a visit leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing is due before this tick; `None` if nothing ever will be.
    Wait(Option<Ticks>),
    /// It was quiet for long: ping it, and come again at this tick.
    Ping(Ticks),
    /// It did not answer a ping.
    Dead,
    /// It has begun a message and does not end it.
    Stuck,
    /// What it was let in with is not good any longer.
    Expired,
}

impl Activity {
    /// Whether its time is over.
    pub fn is_expired(&self, now: Ticks) -> bool {
        self.expires != 0 && now >= self.expires
    }
}

impl Keepalive {
    /// When a peer's first ping is due: somewhere in the second half of its first interval,
    /// picked by its random id, so that peers that came together are not pinged together.
    pub fn first_ping(&self, id: u64, now: Ticks) -> Ticks {
        let half = self.heartbeat.unwrap_or(0) / 2;
        now + half + (id % u64::from(half + 1)) as Ticks
    }

    /// Judges a peer. The tick in an action is the earliest at which anything can be due, so
    /// that visiting then enforces every deadline to the tick.
    pub fn judge(&self, activity: &Activity, now: Ticks) -> Action {
        if activity.is_expired(now) {
            return Action::Expired;
        }
        let expires = (activity.expires != 0).then_some(activity.expires);
        let message = match (self.message_timeout, activity.message_begun) {
            (None, _) => None,
            (Some(timeout), 0) => Some(now + timeout),
            (Some(timeout), begun) if now - begun >= timeout => return Action::Stuck,
            (Some(timeout), begun) => Some(begun + timeout),
        };
        match self.judge_silence(activity, now) {
            Action::Wait(next) => Action::Wait([next, message, expires].into_iter().flatten().min()),
            Action::Ping(next) => Action::Ping([message, expires].into_iter().flatten().fold(next, Ticks::min)),
            action => action,
        }
    }

    fn judge_silence(&self, activity: &Activity, now: Ticks) -> Action {
        let Some(interval) = self.heartbeat else { return Action::Wait(None) };
        let due = match activity.ping {
            // Behind a stalled socket; the write deadline watches that.
            PingState::Waits => return Action::Wait(Some(now + 1)),
            PingState::Left(left) if activity.heard < left && now - left >= self.pong_timeout => return Action::Dead,
            PingState::Left(left) if activity.heard < left => return Action::Wait(Some(left + self.pong_timeout)),
            PingState::Left(_) => activity.heard + interval,
            PingState::None => activity.first_ping.max(activity.heard + interval / 2),
        };
        // An answer that came soon is to be followed by the next ping in time, however patient we are.
        if now < due { Action::Wait(Some(due)) } else { Action::Ping(now + self.pong_timeout.min(interval)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPALIVE: Keepalive = Keepalive { heartbeat: Some(60), pong_timeout: 20, message_timeout: Some(120) };

    #[test]
    fn each_client_gets_what_it_is_due() {
        let none = PingState::None;
        let left = PingState::Left;
        let table = [
            // (why, heard, message_begun, ping, now, action)
            ("has just come", 1, 0, none, 1, Action::Wait(Some(50))),
            ("its first ping is due", 1, 0, none, 50, Action::Ping(70)),
            ("was heard meanwhile", 45, 0, none, 50, Action::Wait(Some(75))),
            ("was pinged, not yet late", 1, 0, left(50), 60, Action::Wait(Some(70))),
            ("was pinged and is late", 1, 0, left(50), 70, Action::Dead),
            ("answered", 51, 0, left(50), 70, Action::Wait(Some(111))),
            ("answered in the same tick", 50, 0, left(50), 70, Action::Wait(Some(110))),
            ("is quiet again", 51, 0, left(50), 111, Action::Ping(131)),
            ("takes nothing", 1, 0, PingState::Waits, 90, Action::Wait(Some(91))),
            ("has begun a message", 55, 55, left(50), 100, Action::Wait(Some(115))),
            ("does not end its message", 170, 55, left(50), 175, Action::Stuck),
        ];
        for (why, heard, message_begun, ping, now, action) in table {
            let activity = Activity { first_ping: 50, heard, message_begun, ping, expires: 0 };
            assert_eq!(KEEPALIVE.judge(&activity, now), action, "{why}");
        }
    }

    #[test]
    fn a_patient_pong_timeout_does_not_delay_the_next_ping() {
        let patient = Keepalive { heartbeat: Some(10), pong_timeout: 40, message_timeout: None };
        let judge = |heard, now| {
            let ping = PingState::Left(20);
            patient.judge(&Activity { first_ping: 1, heard, message_begun: 0, ping, expires: 0 }, now)
        };
        let none = Activity { first_ping: 1, heard: 10, message_begun: 0, ping: PingState::None, expires: 0 };
        assert_eq!(patient.judge(&none, 20), Action::Ping(30));
        assert_eq!(judge(21, 30), Action::Wait(Some(31)));
        assert_eq!(judge(21, 31), Action::Ping(41));
        assert_eq!(judge(10, 30), Action::Wait(Some(60)));
        assert_eq!(judge(10, 60), Action::Dead);
    }

    #[test]
    fn a_deadline_that_is_off_is_never_due() {
        let off = Keepalive { heartbeat: None, pong_timeout: 1, message_timeout: None };
        let activity = Activity { first_ping: 1, heard: 1, message_begun: 1, ping: PingState::None, expires: 0 };
        assert_eq!(off.judge(&activity, 1_000_000), Action::Wait(None));
    }

    #[test]
    fn whose_time_is_over_is_expired_whatever_else_is_due() {
        let off = Keepalive { heartbeat: None, pong_timeout: 1, message_timeout: None };
        let known = |expires, message_begun| Activity {
            first_ping: 50,
            heard: 1,
            message_begun,
            ping: PingState::None,
            expires,
        };
        for (keepalive, expires, message_begun, now, action) in [
            (off, 100, 0, 1, Action::Wait(Some(100))),
            (off, 100, 0, 99, Action::Wait(Some(100))),
            (off, 100, 0, 100, Action::Expired),
            (off, 100, 0, 200, Action::Expired),
            (KEEPALIVE, 40, 0, 1, Action::Wait(Some(40))),
            (KEEPALIVE, 400, 0, 1, Action::Wait(Some(50))),
            (KEEPALIVE, 60, 0, 50, Action::Ping(60)),
            (KEEPALIVE, 90, 0, 50, Action::Ping(70)),
            // Late with a message too.
            (KEEPALIVE, 200, 1, 200, Action::Expired),
        ] {
            assert_eq!(keepalive.judge(&known(expires, message_begun), now), action, "{expires} at {now}");
        }
    }

    #[test]
    fn first_pings_are_spread_over_half_an_interval() {
        let mut ticks: Vec<_> = (0..10_000).map(|id| KEEPALIVE.first_ping(id * 7919, 100)).collect();
        ticks.sort_unstable();
        assert_eq!((ticks[0], ticks[9_999]), (130, 160));
        let busiest = (130..=160).map(|tick| ticks.iter().filter(|&&t| t == tick).count()).max();
        assert!(busiest < Some(400), "{busiest:?} pings in one tick");
    }
}
