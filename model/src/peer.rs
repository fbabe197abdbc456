//! What the peer makes of the bytes that it got.

use crate::connection::frame::Role;
use crate::connection::tls::{DATA, GOODBYE};

/// What is in the records of a TLS session, and whether the session ended in order.
pub fn decrypted(wire: &[u8]) -> (Vec<u8>, bool) {
    let (mut plain, mut rest, mut said_goodbye) = (Vec::new(), wire, false);
    while let [kind, len, content @ ..] = rest {
        let len = usize::from(*len);
        if content.len() < len {
            break;
        }
        assert!(!said_goodbye || *kind != DATA, "a record behind the close_notify");
        said_goodbye |= *kind == GOODBYE;
        if *kind == DATA {
            plain.extend_from_slice(&content[..len]);
        }
        rest = &content[len..];
    }
    (plain, said_goodbye && rest.is_empty())
}

/// Frames of ours, who are `role`: (first byte, payload), and whether the last is whole.
pub fn frames(role: Role, mut rest: &[u8]) -> (Vec<(u8, Vec<u8>)>, bool) {
    let (masked, key_len) = if role == Role::Client { (0x80, 4) } else { (0, 0) };
    let mut frames = Vec::new();
    while let [first, second, behind @ ..] = rest {
        assert!([0x81, 0x82, 0x88, 0x89, 0x8A].contains(first), "no frame begins with {first:x}");
        assert_eq!(second & 0x80, masked, "masked or not, it is the other's way");
        let len = usize::from(second & 0x7F);
        assert!(len < 126, "no model sends as much");
        if behind.len() < key_len + len {
            return (frames, false);
        }
        let (key, behind) = behind.split_at(key_len);
        let (payload, behind) = behind.split_at(len);
        let unmasked = payload.iter().enumerate().map(|(at, byte)| byte ^ key.get(at % 4).unwrap_or(&0)).collect();
        frames.push((*first, unmasked));
        rest = behind;
    }
    (frames, rest.is_empty())
}
