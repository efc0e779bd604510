//! The grammar of `--probe`: what is read, what is refused and where, and that both ways agree.

use proptest::prelude::*;

use super::*;

fn read(spec: &str) -> Probe {
    spec.parse::<ProbeSpec>().unwrap_or_else(|e| panic!("{e}")).0
}

#[test]
fn the_whole_grammar_is_read() {
    assert_eq!(read("files"), files());
    let probe = read(
        r"http:8080/a\,b?x=1,status=503,contains=a\, b\\ >= <,json:/a>=b/0>=-5,newer:/t<x<24h,json:>=1",
    );
    assert_eq!((probe.port, probe.path.as_deref()), (Some(8080), Some("/a,b?x=1")));
    let [status, contains, rows, newer, whole] = &probe.assertions[..] else { panic!("{probe:?}") };
    assert_eq!(status.equals, Some(503));
    assert_eq!(contains.text.as_deref(), Some(r"a, b\ >= <"));
    assert_eq!((rows.pointer.as_deref(), rows.minimum), (Some("/a>=b/0"), Some(-5)));
    assert_eq!((newer.pointer.as_deref(), newer.max_age_seconds), (Some("/t<x"), Some(86_400)));
    assert_eq!((whole.pointer.as_deref(), whole.minimum), (Some(""), Some(1)));
    assert_eq!(to_text(&read("http:1/,status=200")), "http:1/,status=200");
}

#[test]
fn a_tcp_probe_sends_bytes_and_expects_some() {
    let bare = read("tcp:25");
    assert_eq!((bare.kind.as_str(), bare.port, bare.send), ("Tcp", Some(25), None));
    let probe = read(
        r"tcp:6379,send=PING a\,b\\c\r\n\t\x41,contains=+PONG,matches=^\+PO{1\,2}NG\r$,timeout=2m",
    );
    assert_eq!(probe.send.as_deref(), Some("PING a,b\\c\r\n\tA"));
    assert_eq!(probe.timeout_seconds, Some(120));
    assert_eq!(probe.assertions[0].text.as_deref(), Some("+PONG"));
    assert_eq!(probe.assertions[1].pattern.as_deref(), Some(r"^\+PO{1,2}NG\r$"));
    let binary = read(r"tcp:1,send=\0\xff");
    assert_eq!((binary.send.clone(), binary.send_hex.as_deref()), (None, Some("00ff")));
    assert_eq!(to_text(&binary), r"tcp:1,send=\x00\xff");
    assert_eq!(to_text(&read(r"tcp:1,send=a\,\r\n\x00ü")), r"tcp:1,send=a\,\r\n\x00ü");
}

#[test]
fn a_command_probe_has_words_as_a_shell_splits_them() {
    let words = |spec: &str| read(spec).command.unwrap();
    assert_eq!(words("command:./check.sh --all"), ["./check.sh", "--all"]);
    let probe = read(
        r#"command:sqlite3 -json data/app.db 'select count(*) n, 1 from "t"',json:/0/n>=9,exit=3,timeout=90s"#,
    );
    let query = "select count(*) n, 1 from \"t\"";
    assert_eq!(probe.command.unwrap(), ["sqlite3", "-json", "data/app.db", query]);
    assert_eq!(probe.assertions[0].pointer.as_deref(), Some("/0/n"));
    assert_eq!(probe.assertions[1].equals, Some(3));
    assert_eq!(probe.timeout_seconds, Some(90));
    assert_eq!(words(r#"command:a "b,\",c" d\,e"#), ["a", "b,\",c", "d,e"]);
    assert_eq!(words(r"command:a '\',contains=x"), ["a", r"\"]);
    let quoted = r"command:sh -c 'it'\''s, a',matches=^ok";
    assert_eq!(to_text(&read(quoted)), quoted);
}

#[test]
fn errors_underline_the_wrong_part() {
    for (spec, wrong) in [
        ("", ""),
        ("file", "file"),
        ("files,status=200", "status=200"),
        ("http:99999/x", "99999"),
        ("http:0/", "0"),
        ("http:+80/", "+80"),
        ("http:/x", ""),
        ("http:80", ""),
        ("http:80/a b", "/a b"),
        ("http:80/ü", "/ü"),
        (r"http:80/\x", r"\x"),
        (r"http:80/a\", r"\"),
        (r"http:80/,contains=ü\ö", r"\ö"),
        ("http:80/,status=20", "20"),
        ("http:80/,status=200,status=204", "status=204"),
        ("http:80/,contains=", ""),
        ("http:80/,json:rows>=1", "rows"),
        ("http:80/,json:/rows>1", "/rows>1"),
        ("http:80/,json:/rows>=many", "many"),
        ("http:80/,json:/a~2>=1", "/a~2"),
        ("http:80/,newer:/t<1w", "1w"),
        ("http:80/,newer:/t", "/t"),
        ("http:80/,bogus=1", "bogus=1"),
        ("http:80/,", ""),
        ("http:80/,send=x", "send=x"),
        ("http:80/,exit=0", "exit=0"),
        ("http:80/,timeout=1s", "timeout=1s"),
        ("http:80/,matches=", ""),
        ("tcp:", ""),
        ("tcp:0", "0"),
        ("tcp:25/x", "25/x"),
        ("tcp:25,status=200", "status=200"),
        ("tcp:25,json:/a>=1", "json:/a>=1"),
        ("tcp:25,expect=220", "expect=220"),
        ("tcp:25,send=a,send=b", "send=b"),
        ("tcp:25,timeout=1s,timeout=1s", "timeout=1s"),
        ("tcp:25,timeout=1", "1"),
        (r"tcp:25,matches=a\", r"a\"),
        (r"tcp:25,send=a\qb", r"\q"),
        (r"tcp:25,send=a\", r"\"),
        (r"tcp:25,send=\x4", r"\x"),
        (r"tcp:25,send=\xaü", r"\x"),
        (r"tcp:25,send=\xü", r"\xü"),
        ("command:", ""),
        ("command:'a", "'a"),
        ("command:a,exit=256", "256"),
        ("command:a,exit=0,exit=1", "exit=1"),
        ("command:a,status=200", "status=200"),
        ("command:a,", ""),
    ] {
        let error = spec.parse::<ProbeSpec>().unwrap_err();
        assert_eq!(&spec[error.start..error.end], wrong, "{error}");
        let marks = error.to_string().lines().last().unwrap().matches('^').count();
        assert_eq!(marks, wrong.chars().count().max(1), "{error}");
    }
}

#[test]
fn what_is_known_is_said() {
    let told = |spec: &str| spec.parse::<ProbeSpec>().unwrap_err().to_string();
    assert!(told("tcp:25,expect=220").contains("send=TEXT, contains=TEXT, matches=REGEX"));
    assert!(told("command:a,status=0").contains("exit=N"));
    assert!(told("http:80/,exit=0").contains("status=N"));
    assert!(told("udp:53").contains("'tcp:PORT'"));
}

fn any_assertion() -> impl Strategy<Value = Assertion> {
    let blank = Assertion::default();
    let (b0, b1, b2, b3) = (blank.clone(), blank.clone(), blank.clone(), blank);
    let at = "(/([^/~]|~0|~1){0,6}){0,3}";
    prop_oneof![
        // A pattern of the API may hold anything but a backslash before a comma, which is written
        // as the comma that it means.
        ("[^,\\\\]{1,4}(\\\\[d.]|,){0,2}").prop_map(move |pattern| Assertion {
            kind: "BodyMatches".into(),
            pattern: Some(pattern),
            ..b0.clone()
        }),
        ("\\PC{1,10}").prop_map(move |text| Assertion {
            kind: "BodyContains".into(),
            text: Some(text),
            ..b1.clone()
        }),
        (at, any::<i64>()).prop_map(move |(pointer, minimum)| Assertion {
            kind: "JsonAtLeast".into(),
            pointer: Some(pointer),
            minimum: Some(minimum),
            ..b2.clone()
        }),
        (at, 0..=i64::MAX.cast_unsigned()).prop_map(move |(pointer, age)| Assertion {
            kind: "JsonNewerThan".into(),
            pointer: Some(pointer),
            max_age_seconds: Some(age),
            ..b3.clone()
        }),
    ]
}

proptest! {
    #[test]
    fn every_probe_survives_being_written(
        port in 1..=u16::MAX,
        path in "/[!-~]{0,12}",
        assertions in proptest::collection::vec(any_assertion(), 0..4),
    ) {
        let (port, path) = (Some(port), Some(path));
        let probe =
            Probe { kind: "Http".into(), port, path, assertions, ..Probe::default() };
        let text = to_text(&probe);
        prop_assert_eq!(text.parse::<ProbeSpec>().map(|spec| spec.0), Ok(probe));
    }

    #[test]
    fn every_command_survives_being_written(
        program in "\\PC{1,8}",
        args in proptest::collection::vec("[\\PC\\n'\",\\\\ ]{0,8}", 0..4),
        assertions in proptest::collection::vec(any_assertion(), 0..3),
        timeout_seconds in proptest::option::of(1..100_000_u64),
    ) {
        let command = Some(std::iter::once(program).chain(args).collect());
        let kind = "Command".into();
        let probe = Probe { kind, command, assertions, timeout_seconds, ..Probe::default() };
        let text = to_text(&probe);
        prop_assert_eq!(text.parse::<ProbeSpec>().map(|spec| spec.0), Ok(probe));
    }

    #[test]
    fn whatever_is_sent_survives_being_written(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
        let mut probe = Probe { kind: "Tcp".into(), port: Some(1), ..Probe::default() };
        match String::from_utf8(bytes) {
            Ok(text) => probe.send = Some(text),
            Err(error) => {
                let hex = error.as_bytes().iter().map(|byte| format!("{byte:02x}"));
                probe.send_hex = Some(hex.collect());
            }
        }
        let text = to_text(&probe);
        prop_assert_eq!(text.parse::<ProbeSpec>().map(|spec| spec.0), Ok(probe));
    }

    #[test]
    fn any_text_is_read_or_refused_in_place(
        spec in "(http:[0-9]{0,6}/?|tcp:[0-9]{0,3}|command:)?([,\\\\/=<>~a:'\" ]|status=|json:|newer:|send=|exit=|matches=|timeout=|\\PC){0,12}"
    ) {
        match spec.parse::<ProbeSpec>() {
            Ok(ProbeSpec(probe)) => {
                prop_assert_eq!(to_text(&probe).parse::<ProbeSpec>(), Ok(ProbeSpec(probe)));
            }
            Err(error) => prop_assert!(error.to_string().contains('^')),
        }
    }
}
