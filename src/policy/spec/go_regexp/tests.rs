//! What Go's `regexp.Compile` was seen to take and to refuse.

use super::check;

#[test]
fn what_go_compiles() {
    for pattern in [
        "",
        "/v1/items/[^/]+(\\?.*)?",
        "/items/{id}",
        "GET|POST",
        "a{2,3}",
        "a{,3}",
        "a{08}",
        "[[a]",
        "[]a]",
        "[a-]",
        "[-a]",
        "[\\d-z]",
        "[[:alpha:]]",
        "\\Qa.b\\E",
        "\\012",
        "\\x{1F600}",
        "\\_",
        "\\<",
        "(?i)abc",
        "(?P<n>a)(?<n>b)",
        "(?)",
        "a*?",
        "\\pL\\p{Greek}\\p{^Latin}",
        "a|",
        "()",
        "^*",
        "(a{10}){100}",
        "(?s-i:a)",
        "a{1000}",
        "x{0}",
    ] {
        assert!(check(pattern).is_ok(), "{pattern}: {:?}", check(pattern));
    }
}

#[test]
fn what_go_refuses() {
    for pattern in [
        "(",
        ")",
        "*",
        "a**",
        "a+*",
        "a{2}{3}",
        "[",
        "[b-a]",
        "\\",
        "\\8",
        "\\1",
        "\\u00e9",
        "\\C",
        "(?=a)",
        "(?x)a",
        "\\p{Old_Italic}",
        "(?P<n",
        "a{1001}",
        "(a{100}){100}",
        "a{3,2}",
        "\\p{Foo}",
        "[[:foo:]]",
        "|*",
        "(*)",
        "\\x1",
        "\\x{}",
        "(?i-)a",
        "[a",
        "\\e",
    ] {
        assert!(check(pattern).is_err(), "{pattern}");
    }
    assert!(check(&"(".repeat(1_000_000)).is_err());
    assert!(check(&format!("{}{}", "(".repeat(1001), ")".repeat(1001))).is_err());
    assert!(check(&format!("{}{}", "(".repeat(900), ")".repeat(900))).is_ok());
}
