//! `wsgate token`: tokens for an `[[auth]]` of the kind `tokens`, and their lines in its file.

use std::io::{self, Read, Write};

use clap::{Args, Subcommand};

use super::exit;
use super::failure::{Failure, output_failed, tell};
use crate::auth::tokens;
use crate::identity::is_name;

/// The random bytes of a token: enough that nobody guesses one, so that its digest needs no slow hash.
const RANDOM_BYTES: usize = 32;

/// The longest token that a request head has room for, in bytes.
const TOKEN_MAX: usize = 8 << 10;

/// A token of one's own that is shorter than this gets a warning. So many characters of base64 have 128 bits.
const TOKEN_SHORT: usize = 22;

pub(super) const AFTER_HELP: &str = "\
Examples:
  wsgate token new press-3 2>>tokens.txt         print a new token, add its line to the file
  printf %s \"$TOKEN\" | wsgate token hash press-3 >>tokens.txt

tokens.txt is the file of an [[auth]] with kind = \"tokens\". It holds no token, only their SHA-256.";

#[derive(Args)]
pub(super) struct TokenArguments {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Print a new token on standard output, and the line for the file on standard error
    New(NameArgument),
    /// Read a token from standard input and print the line for the file
    Hash(NameArgument),
}

#[derive(Args)]
struct NameArgument {
    /// What the log and messages call the client that has the token
    #[arg(value_name = "NAME")]
    name: String,
}

/// Makes a token, or the line of one that exists.
pub(super) fn run(arguments: TokenArguments) -> Result<(), Failure> {
    let (TokenCommand::New(NameArgument { name }) | TokenCommand::Hash(NameArgument { name })) = &arguments.command;
    if !is_name(name) || name.starts_with('#') {
        let text = format!("{name:?} is no name: use 1 to 256 bytes without control characters, not \"#\" first");
        return Err(Failure { text, exit_code: exit::USAGE });
    }
    let (printed, told) = match arguments.command {
        TokenCommand::New(_) => {
            let token = new_token()?;
            let line = tokens::line(name, &token);
            (token, Some(line))
        }
        TokenCommand::Hash(_) => {
            let token = read_token(io::stdin())?;
            let is_short = token.len() < TOKEN_SHORT;
            let warning = "warning: this token is short, and whoever reads the file can find it by guessing: \
                           'wsgate token new' makes one that nobody finds";
            (tokens::line(name, &token), is_short.then(|| warning.to_owned()))
        }
    };
    // The token first: its line alone would be of no use.
    writeln!(io::stdout(), "{printed}").or_else(|error| output_failed(&error))?;
    told.iter().for_each(|line| tell(line));
    Ok(())
}

fn new_token() -> Result<String, Failure> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|error| Failure {
        text: format!("the system has no random bytes: {error}"),
        exit_code: exit::SYSTEM,
    })?;
    Ok(data_encoding::BASE64URL_NOPAD.encode(&random))
}

/// One line of visible ASCII: what every place of a request can hold.
fn read_token(input: impl Read) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = input.take(TOKEN_MAX as u64 + 3).read_to_end(&mut bytes);
    read.map_err(|error| Failure { text: format!("failed to read standard input: {error}"), exit_code: exit::IO })?;
    let wrong = |text: &str| Failure { text: text.to_owned(), exit_code: exit::DATA };
    let text = String::from_utf8(bytes).map_err(|_| wrong("the token on standard input is not text"))?;
    let token = text.strip_suffix('\n').unwrap_or(&text);
    let token = token.strip_suffix('\r').unwrap_or(token);
    match token.len() {
        0 => Err(wrong("there is no token on standard input")),
        1..=TOKEN_MAX if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(token.to_owned()),
        1..=TOKEN_MAX => Err(wrong("a token is one line of ASCII characters without blanks")),
        _ => Err(wrong("the token on standard input is longer than 8 KiB, and no request has room for it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_new_each_time_and_43_characters_long() {
        let (one, other) = (new_token().unwrap(), new_token().unwrap());
        assert_eq!((one.len(), one == other), (43, false));
    }

    #[test]
    fn a_token_is_one_line() {
        let long = "x".repeat(TOKEN_MAX);
        for (input, token) in [
            ("abc", Some("abc")),
            ("abc\n", Some("abc")),
            ("abc\r\n", Some("abc")),
            ("a+/=~.-_b\n", Some("a+/=~.-_b")),
            (&long, Some(&*long)),
            ("", None),
            ("\n", None),
            ("a b", None),
            ("a\nb", None),
            ("\u{e9}", None),
            (&format!("{long}x"), None),
            (&long.repeat(2), None),
        ] {
            assert_eq!(read_token(input.as_bytes()).ok().as_deref(), token, "{:.20}", input);
        }
    }
}
