//! What the help of these commands has in common.

/// What every one of these commands says of where it asks.
macro_rules! help {
    ($own:literal) => {
        concat!(
            $own,
            "\n\nwsgate is asked at the address of '--admin', else at that under [admin] in the file of '--config',\n\
             else at that in WSGATE_ADMIN, else at 127.0.0.1:8081. If its admin listener has \"auth\", give a token\n\
             in WSGATE_TOKEN or with '--token-file'. At a terminal the answer is a table or a sentence; to a file\n\
             or a pipe, and with '--json', it is JSON, one object a line."
        )
    };
}
pub(super) use help;
