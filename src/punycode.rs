//! Names of hosts in the ASCII form that DNS knows (RFC 3492, RFC 5891), to tell a person what to write.

/// A host in its ASCII form: each label with other letters becomes `xn--...`. The letters are only made small, so a name
/// in an unusual spelling, with combining accents for one, has none.
pub fn host_to_ascii(host: &str) -> Option<String> {
    let labels: Vec<String> = host.split('.').map(label_to_ascii).collect::<Option<_>>()?;
    Some(labels.join("."))
}

fn label_to_ascii(label: &str) -> Option<String> {
    if label.is_ascii() {
        return Some(label.to_owned());
    }
    let small = label.to_lowercase();
    let is_plain = |c: char| if c.is_ascii() { c.is_ascii_alphanumeric() || c == '-' } else { c.is_alphanumeric() };
    if !small.chars().all(is_plain) {
        return None;
    }
    // The longest label that DNS has (RFC 1035 section 2.3.4).
    Some(format!("xn--{}", encode(&small)?)).filter(|ascii| ascii.len() <= 63)
}

/// The parameters of Punycode (RFC 3492 section 5).
const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;
const SKEW: u32 = 38;
const DAMP: u32 = 700;
const FIRST_BIAS: u32 = 72;
const FIRST_CODE: u32 = 0x80;

/// RFC 3492 section 6.3; `None` if a number in it overflows.
fn encode(label: &str) -> Option<String> {
    let mut out: String = label.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(out.len()).ok()?;
    if basic > 0 {
        out.push('-');
    }
    let codes: Vec<u32> = label.chars().map(u32::from).collect();
    let all = u32::try_from(codes.len()).ok()?;
    let (mut code, mut delta, mut bias, mut handled) = (FIRST_CODE, 0u32, FIRST_BIAS, basic);
    while handled < all {
        let next = codes.iter().copied().filter(|own| *own >= code).min()?;
        delta = delta.checked_add((next - code).checked_mul(handled + 1)?)?;
        code = next;
        for own in &codes {
            if *own < code {
                delta = delta.checked_add(1)?;
            }
            if *own == code {
                push_number(delta, bias, &mut out);
                bias = adapt(delta, handled + 1, handled == basic);
                delta = 0;
                handled += 1;
            }
        }
        delta = delta.checked_add(1)?;
        code += 1;
    }
    Some(out)
}

/// A number in the variable-length digits of Punycode.
fn push_number(number: u32, bias: u32, out: &mut String) {
    let mut rest = number;
    let mut k = BASE;
    loop {
        let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
        if rest < threshold {
            out.push(digit(rest));
            return;
        }
        out.push(digit(threshold + (rest - threshold) % (BASE - threshold)));
        rest = (rest - threshold) / (BASE - threshold);
        k += BASE;
    }
}

fn digit(value: u32) -> char {
    char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[value as usize])
}

/// RFC 3492 section 6.1.
fn adapt(delta: u32, handled: u32, is_first: bool) -> u32 {
    let mut delta = if is_first { delta / DAMP } else { delta / 2 };
    delta += delta / handled;
    let mut k = 0;
    while delta > (BASE - T_MIN) * T_MAX / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (BASE - T_MIN + 1) * delta / (delta + SKEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_the_ascii_form_that_dns_knows() {
        for (host, ascii) in [
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("München", Some("xn--mnchen-3ya")),
            ("例え.jp", Some("xn--r8jz45g.jp")),
            ("Größe", Some("xn--gre-6ka8i")),
            ("пример.испытание", Some("xn--e1afmkfd.xn--80akhbyknj4f")),
            ("plain.example", Some("plain.example")),
            ("a\u{301}", None),
            ("a\u{9b}b", None),
        ] {
            assert_eq!(host_to_ascii(host).as_deref(), ascii, "{host}");
        }
        assert_eq!(host_to_ascii(&"ü".repeat(200)), None);
    }
}
