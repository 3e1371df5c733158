//! Every policy that was found in public repositories: `cpg validate` and Cilium's own code agree on which
//! are refused. The policies stand outside of the repository; where they are missing this says so.

use std::collections::BTreeMap;
use std::process::Command;

use cpg::policy::spec::{Options, Refusal, Version};
use cpg::policy::validate::check;
use serde_json::Value;

use crate::support::{shared, skipped, yaml_below};
use crate::testbed::{MISSING, program};

/// Files on which the two differ in number: kubectl stops reading at a line `...`, cpg reads on and says
/// so, and finds a second document to refuse.
const KNOWN: &[&str] = &[
    "idealisthacking+study-cilium/2Week_Cilium_Network_Policy_L7.yaml",
    "ingcloud-fr+cks-labs/cks_ADV-CNP_with_L3_L4_mutual_auth_SOLUTION.yaml",
];

#[test]
fn validate_agrees_with_cilium_on_every_policy_that_was_found() {
    let Some(program) = program() else { return skipped(MISSING) };
    let Some(shared) = shared() else { return skipped("the policies of public repositories are not here") };
    let mut files = Vec::new();
    yaml_below(&shared.join("policies"), &mut files);
    files.sort();
    let output = Command::new(program).arg("validate").args(&files).output().unwrap();
    let mut judged: BTreeMap<String, Vec<(String, bool)>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["stage"] != "skipped" {
            let name = format!(
                "{}/{}",
                line["kind"].as_str().unwrap_or_default(),
                line["name"].as_str().unwrap_or_default()
            );
            judged
                .entry(line["file"].as_str().unwrap().to_owned())
                .or_default()
                .push((name, line["ok"] == true));
        }
    }
    let (mut documents, mut refused, mut differ) = (0, 0, Vec::new());
    for file in &files {
        let name = file.display().to_string();
        let Some(theirs) = judged.get(&name) else { continue };
        let text = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
        let ours = check(&text, &Options::of(Version::V1_19));
        let refuses = |checked: &cpg::policy::validate::Checked| {
            checked.findings.iter().any(|f| !matches!(f.refusal, Refusal::Warning | Refusal::Information))
        };
        let ours_refused = ours.iter().filter(|c| refuses(c)).count();
        let theirs_refused = theirs.iter().filter(|(_, ok)| !ok).count();
        documents += theirs.len();
        refused += theirs_refused;
        if ours_refused != theirs_refused && !KNOWN.iter().any(|known| name.ends_with(known)) {
            differ.push(format!(
                "{name}: Cilium refuses {theirs_refused} of {}, cpg {ours_refused}",
                theirs.len()
            ));
        }
    }
    println!("{documents} policies, {refused} refused, {} files differ", differ.len());
    assert!(differ.is_empty(), "{differ:#?}");
    assert!(documents > 500, "{documents}");
}
