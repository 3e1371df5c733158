//! What a `kustomization.yaml` says about the files beside it: one that it does not list is never
//! applied, however good it is.

use std::fs;
use std::path::{Component, Path};

use serde_json::Value;

use crate::policy::yaml;

/// The names that kustomize looks for (`kustomize/api/konfig`, `RecognizedKustomizationFileNames`).
const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// The lists of a kustomization that name manifests.
const LISTS: [&str; 3] = ["resources", "bases", "crds"];
/// Bytes of the largest kustomization that is read.
const LARGEST: u64 = 1 << 20;

/// One sentence with the line to add, where the nearest kustomization at or above a file, up to `root`,
/// does not list the file. `None` also where there is none, or none that can be read.
pub(super) fn unlisted(root: &Path, path: &Path) -> Option<String> {
    let mut directory = path.parent()?;
    let kustomization = loop {
        if let Some(found) = NAMES.iter().map(|name| directory.join(name)).find(|name| name.is_file()) {
            break found;
        }
        if directory == root || !directory.starts_with(root) {
            return None;
        }
        directory = directory.parent()?;
    };
    if fs::metadata(&kustomization).ok()?.len() > LARGEST {
        return None;
    }
    let text = fs::read_to_string(&kustomization).ok()?;
    let documents: Vec<Value> = yaml::read_all(&text).ok()?;
    let file = path.strip_prefix(directory).ok()?;
    let listed = documents
        .iter()
        .flat_map(|document| LISTS.iter().filter_map(|list| document.get(*list)?.as_array()))
        .flatten()
        .filter_map(Value::as_str)
        .any(|entry| same(Path::new(entry), file));
    (!listed).then(|| {
        format!(
            "{} does not list it, so it is not applied: add `- {}` under `resources`",
            kustomization.display(),
            file.display()
        )
    })
}

/// Whether two relative paths are one, `./` left out.
fn same(a: &Path, b: &Path) -> bool {
    let parts = |path: &Path| -> Vec<_> {
        path.components()
            .filter(|part| *part != Component::CurDir)
            .map(|c| c.as_os_str().to_owned())
            .collect()
    };
    parts(a) == parts(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kustomization_does_not_list_is_told_with_the_line_to_add() {
        let check = |place: &str, text: &str, expected: Option<&str>| {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join("shop")).unwrap();
            #[allow(clippy::disallowed_methods, reason = "tests play the person who writes by hand")]
            fs::write(root.path().join(place), text).unwrap();
            let told = unlisted(root.path(), &root.path().join("shop/web.yaml"));
            let line = told.as_deref().and_then(|told| told.split('`').nth(1));
            assert_eq!(line, expected, "{place} {text}: {told:?}");
        };
        check("shop/kustomization.yaml", "resources: [api.yaml]\n", Some("- web.yaml"));
        check("shop/kustomization.yaml", "resources:\n- api.yaml\n- ./web.yaml\n", None);
        check("shop/Kustomization", "", Some("- web.yaml"));
        check("kustomization.yml", "resources: [shop/api.yaml]\n", Some("- shop/web.yaml"));
        check("kustomization.yml", "resources: [./shop/./web.yaml]\n", None);
        check("shop/kustomization.yaml", "resources: [", None);
        check("shop/other.yaml", "resources: []\n", None);
    }
}
