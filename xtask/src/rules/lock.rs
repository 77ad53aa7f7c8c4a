//! What the lock file may not hold.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::layering::LockRules;

#[derive(Debug, Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
}

/// What is wrong with a lock file.
pub(super) fn complaints(lock: &str, rules: &LockRules) -> anyhow::Result<Vec<String>> {
    let lock: Lock = toml::from_str(lock)?;
    let versions = |name: &str| -> Vec<&str> {
        let named = lock.package.iter().filter(|package| package.name == name);
        named.map(|package| package.version.as_str()).collect()
    };
    let mut complaints = Vec::new();
    for name in &rules.one_line_each {
        let found = versions(name);
        let lines: BTreeSet<_> = found.iter().map(|version| compatible_line(version)).collect();
        match lines.len() {
            0 => complaints.push(format!("no {name} in Cargo.lock: correct layering.toml")),
            1 => {}
            _ => complaints
                .push(format!("{name} is there as {}: bring them together", found.join(" and "))),
        }
    }
    for name in &rules.never {
        if !versions(name).is_empty() {
            complaints.push(format!(
                "{name} came in: `cargo tree --invert {name} --target all` shows through whom"
            ));
        }
    }
    Ok(complaints)
}

/// What versions must share for cargo to take them for one: all up to the first number that is not zero.
fn compatible_line(version: &str) -> String {
    let mut line = Vec::new();
    for number in version.split('.') {
        line.push(number);
        if number != "0" {
            break;
        }
    }
    line.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> LockRules {
        LockRules { one_line_each: vec!["tonic".into()], never: vec!["openssl".into()] }
    }

    fn lock(packages: &[(&str, &str)]) -> String {
        let one = |(name, version): &(&str, &str)| {
            format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n")
        };
        packages.iter().map(one).collect()
    }

    #[test]
    fn two_incompatible_versions_are_a_complaint() {
        let complaints =
            complaints(&lock(&[("tonic", "0.13.1"), ("tonic", "0.14.9")]), &rules()).unwrap();
        assert_eq!(complaints, ["tonic is there as 0.13.1 and 0.14.9: bring them together"]);
    }

    #[test]
    fn a_banned_package_is_a_complaint() {
        let complaints =
            complaints(&lock(&[("tonic", "0.14.9"), ("openssl", "0.10.0")]), &rules()).unwrap();
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].starts_with("openssl came in"), "{complaints:?}");
    }

    #[test]
    fn a_rule_about_a_package_that_is_gone_is_a_complaint() {
        assert_eq!(complaints(&lock(&[("other", "1.0.0")]), &rules()).unwrap().len(), 1);
        assert!(complaints(&lock(&[("tonic", "0.14.9")]), &rules()).unwrap().is_empty());
    }

    #[test]
    fn lines_of_compatible_versions_are_cargo_s() {
        for (version, line) in
            [("1.2.3", "1"), ("0.14.9", "0.14"), ("0.0.3", "0.0.3"), ("2.0.0-rc.1", "2")]
        {
            assert_eq!(compatible_line(version), line);
        }
    }
}
