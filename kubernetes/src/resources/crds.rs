//! What a cluster must know of the kinds before there can be any.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::Value;

use super::federated_types::FederatedTrustDomain;
use super::issuer::{BanyanClusterIssuer, BanyanIssuer};
use super::types::{RootAuthority, RootRotation, TrustDomain, Waiver};

/// Each kind, by the name of its file.
#[must_use]
pub fn crds() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![
        ("rootrotations.yaml", RootRotation::crd()),
        ("trustdomains.yaml", TrustDomain::crd()),
        ("rootauthorities.yaml", RootAuthority::crd()),
        ("waivers.yaml", Waiver::crd()),
        ("federatedtrustdomains.yaml", FederatedTrustDomain::crd()),
        ("banyanissuers.yaml", BanyanIssuer::crd()),
        ("banyanclusterissuers.yaml", BanyanClusterIssuer::crd()),
    ]
}

/// Each kind as YAML, by the name of its file.
///
/// # Errors
/// If one cannot be written as JSON, which is a fault of this program.
pub fn manifests() -> Result<Vec<(&'static str, String)>, serde_json::Error> {
    let manifest = |(file, crd): (_, CustomResourceDefinition)| {
        let value = serde_json::to_value(crd)?;
        let mut text = String::from("# Written by `banyan kubernetes crds`.\n");
        yaml(&value, 0, &mut text);
        Ok((file, text))
    };
    crds().into_iter().map(manifest).collect()
}

/// Block style for maps and lists, and every text as JSON writes it, which YAML reads the same.
fn yaml(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                text.push_str(&format!("{indent}{}:", plain(key)));
                nested(value, depth + 1, text);
            }
        }
        Value::Array(list) => {
            for value in list {
                let mut item = String::new();
                match value {
                    Value::Object(map) if !map.is_empty() => yaml(value, depth + 1, &mut item),
                    other => item = format!("{indent}  {other}\n"),
                }
                // The first line of an item carries its dash.
                text.push_str(&format!("{indent}- {}", item.trim_start()));
            }
        }
        other => text.push_str(&format!("{indent}{other}\n")),
    }
}

fn nested(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            yaml(value, depth, text);
        }
        Value::Array(list) if !list.is_empty() => {
            text.push('\n');
            yaml(value, depth - 1, text);
        }
        other => text.push_str(&format!(" {other}\n")),
    }
}

/// A key without quotes where YAML takes it so.
fn plain(key: &str) -> String {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/.".contains(&byte);
    match key.bytes().all(fits) && key.starts_with(|first: char| first.is_ascii_alphabetic()) {
        true => key.to_owned(),
        false => Value::from(key).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_committed_definitions_are_what_the_code_generates() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let mut names = Vec::new();
        for (name, manifest) in manifests().unwrap() {
            let committed = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            assert_eq!(
                committed, manifest,
                "deploy/crds/{name}: run `banyan kubernetes crds --to deploy/crds`"
            );
            names.push(name.to_owned());
        }
        names.sort();
        assert_eq!(files, names);
    }

    #[test]
    fn every_text_is_written_so_that_yaml_reads_it_back() {
        let value = serde_json::json!({ "a": { "b": [ { "c": "x: \"y\"", "d": [] }, "e" ], "f": {} }, "$g": true });
        let mut text = String::new();
        yaml(&value, 0, &mut text);
        assert_eq!(
            text,
            "\"$g\": true\na:\n  b:\n  - c: \"x: \\\"y\\\"\"\n    d: []\n  - \"e\"\n  f: {}\n"
        );
    }
}
