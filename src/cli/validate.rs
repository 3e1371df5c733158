//! `cpg validate`: what the API server and Cilium's agent would say to policies in files.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::args::{OutputFormat, ValidateArgs};
use super::output;
use crate::policy::spec::{Finding, Options, Refusal, Version};
use crate::policy::validate::validate_bytes;
use crate::text::{count, visible};

/// How deep below a directory files are looked for.
const DEPTH: usize = 32;
/// Larger files are not read: no policy has this size, and memory is bounded.
const LARGEST: u64 = 256 << 20;

/// What a run found.
#[derive(Debug, Default)]
struct Found {
    files: u64,
    refused: u64,
    warnings: u64,
    unreadable: u64,
}

pub(super) fn run(args: &ValidateArgs) -> ExitCode {
    let Some(version) = Version::parse(&args.cilium_version) else {
        let known: Vec<&str> = Version::ALL.iter().map(|v| v.as_str()).collect();
        let shown = visible(&args.cilium_version, 40).into_owned();
        return output::mistakes(&[format!("--cilium-version {shown:?}: one of {}", known.join(", "))]);
    };
    let mut found = Found::default();
    for path in &args.paths {
        for (file, content) in read(path, &mut found) {
            found.files += 1;
            for finding in validate_bytes(&content, &Options::of(version)) {
                found.tell(&file, &finding, args.output);
            }
        }
    }
    output::say(&format!(
        "cpg: {} for Cilium {version}: {}, {}",
        count(found.files, "file"),
        count(found.refused, "refusal"),
        count(found.warnings, "warning")
    ));
    found.code()
}

/// The files that a path names: itself, standard input, or every YAML file below it.
fn read(path: &Path, found: &mut Found) -> Vec<(String, Vec<u8>)> {
    if path.as_os_str() == "-" {
        let mut content = Vec::new();
        return match std::io::stdin().lock().take(LARGEST).read_to_end(&mut content) {
            Ok(_) => vec![("standard input".to_owned(), content)],
            Err(e) => found.unreadable("standard input", &e.to_string()),
        };
    }
    let mut files = Vec::new();
    if path.is_dir() {
        walk(path, 0, &mut files, found);
        files.sort();
    } else {
        files.push(path.to_owned());
    }
    let mut contents = Vec::new();
    for file in files {
        let name = visible(&file.display().to_string(), 500).into_owned();
        match std::fs::metadata(&file)
            .and_then(|m| if m.len() > LARGEST { Ok(None) } else { std::fs::read(&file).map(Some) })
        {
            Ok(Some(content)) => contents.push((name, content)),
            Ok(None) => contents.extend(found.unreadable(&name, "the file is too large to be a policy")),
            Err(e) => contents.extend(found.unreadable(&name, &e.to_string())),
        }
    }
    contents
}

fn walk(directory: &Path, depth: usize, files: &mut Vec<PathBuf>, found: &mut Found) {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) => {
            found.unreadable(&visible(&directory.display().to_string(), 500), &e.to_string());
            return;
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if hidden {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth < DEPTH => walk(&path, depth + 1, files, found),
            Ok(kind) if !kind.is_dir() && path.extension().is_some_and(|e| e == "yaml" || e == "yml") => {
                files.push(path);
            }
            _ => {}
        }
    }
}

// === impl Found ===

impl Found {
    fn unreadable(&mut self, name: &str, why: &str) -> Vec<(String, Vec<u8>)> {
        self.unreadable += 1;
        output::say(&format!("error: {name} cannot be read: {why}"));
        Vec::new()
    }

    fn tell(&mut self, file: &str, finding: &Finding, format: OutputFormat) {
        match finding.refusal {
            Refusal::ApiServer | Refusal::Agent | Refusal::Both => self.refused += 1,
            Refusal::Warning => self.warnings += 1,
            Refusal::Information => {}
        }
        let object = |text: &Option<Box<str>>| text.as_deref().map(|t| visible(t, 260).into_owned());
        let (line, column) = finding.mark.map_or((None, None), |m| (Some(m.line), Some(m.column)));
        let path = visible(&finding.path.to_string(), 500).into_owned();
        let message = visible(&finding.message, 1_000).into_owned();
        let who = who(finding.refusal);
        output::result(&match format {
            OutputFormat::Json => json!({
                "file": file, "document": finding.document, "kind": object(&finding.kind),
                "namespace": object(&finding.namespace), "name": object(&finding.name),
                "path": path, "line": line, "column": column, "refused_by": who, "message": message,
            })
            .to_string(),
            OutputFormat::Text => {
                let name = object(&finding.name).unwrap_or_default();
                let place = line.map(|l| format!(":{l}:{}", column.unwrap_or(1))).unwrap_or_default();
                format!("{file}{place}: {who}: {name} {path}: {message}")
            }
        });
    }

    /// 0 clean, 1 refusals or warnings, 2 unreadable.
    fn code(&self) -> ExitCode {
        if self.unreadable > 0 {
            ExitCode::from(2)
        } else if self.refused + self.warnings > 0 {
            ExitCode::from(1)
        } else {
            ExitCode::SUCCESS
        }
    }
}

fn who(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::ApiServer => "API server",
        Refusal::Agent => "agent",
        Refusal::Both => "API server and agent",
        Refusal::Warning => "warning",
        Refusal::Information => "note",
    }
}
