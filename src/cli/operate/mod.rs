//! The commands for a wsgate that runs: they ask its admin listener, and print what it answers as a table at a terminal and
//! as JSON elsewhere.

mod api;
mod arguments;
mod clients;
mod drain;
mod help;
mod info;
mod kick;
mod levels;
mod links;
mod messages;
mod output;
mod place;
mod refusal;
mod reload;
mod table;
mod tail;

use clap::Subcommand;

use crate::cli::failure::Failure;

#[derive(Subcommand)]
pub(super) enum OperateCommand {
    /// Show what a running wsgate is and serves
    #[command(after_help = info::AFTER_HELP)]
    Info(info::InfoArguments),
    /// List the clients of a running wsgate
    #[command(after_help = clients::AFTER_HELP)]
    Clients(clients::ClientsArguments),
    /// Send a message to one client of a running wsgate
    #[command(after_help = messages::SEND_TO_HELP)]
    SendTo(messages::SendToArguments),
    /// Send a message to all clients of a room, or of all rooms of a path
    #[command(after_help = messages::PUBLISH_HELP)]
    Publish(messages::PublishArguments),
    /// Close the connection of a client
    #[command(after_help = kick::AFTER_HELP)]
    Kick(kick::KickArguments),
    /// Print what clients send, until Ctrl-C
    #[command(after_help = tail::AFTER_HELP)]
    Tail(tail::TailArguments),
    /// List the links of a running wsgate, with their state and last failure
    #[command(after_help = links::LINKS_HELP)]
    Links(links::LinksArguments),
    /// Have a link dialled at once, also one that is given up
    #[command(after_help = links::REDIAL_HELP)]
    Redial(links::RedialArguments),
    /// Change what the log shows until the next reload
    #[command(after_help = levels::AFTER_HELP)]
    Log(levels::LogArguments),
    /// Have a running wsgate read its configuration again, all of it or nothing
    #[command(after_help = reload::AFTER_HELP)]
    Reload(reload::ReloadArguments),
    /// Let nobody in any more, close the clients one after the other, and end
    #[command(after_help = drain::AFTER_HELP)]
    Drain(drain::DrainArguments),
}

/// Does what one of these commands asks for.
pub(super) fn run(command: OperateCommand) -> Result<(), Failure> {
    match command {
        OperateCommand::Info(arguments) => info::run(arguments),
        OperateCommand::Clients(arguments) => clients::run(arguments),
        OperateCommand::SendTo(arguments) => messages::send_to(arguments),
        OperateCommand::Publish(arguments) => messages::publish(arguments),
        OperateCommand::Kick(arguments) => kick::run(arguments),
        OperateCommand::Tail(arguments) => tail::run(arguments),
        OperateCommand::Links(arguments) => links::list(arguments),
        OperateCommand::Redial(arguments) => links::redial(arguments),
        OperateCommand::Log(arguments) => levels::run(arguments),
        OperateCommand::Reload(arguments) => reload::run(arguments),
        OperateCommand::Drain(arguments) => drain::run(arguments),
    }
}
