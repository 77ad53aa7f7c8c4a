//! Volumes of a Pod, made of what the API server has.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stores_peers::ApiServer;

/// Whose volumes, and where.
#[derive(Debug)]
pub(super) struct Volumes<'a> {
    pub(super) api: &'a ApiServer,
    /// As the API server has it.
    pub(super) pod: &'a Value,
    pub(super) namespace: &'a str,
    /// Where each is.
    pub(super) folders: BTreeMap<String, PathBuf>,
}

/// A file of a volume.
struct File {
    path: String,
    content: Vec<u8>,
}

impl Volumes<'_> {
    /// Makes all of them anew, or the files of those that are there already.
    pub(super) async fn make(&self) -> anyhow::Result<()> {
        let volumes = self.pod.pointer("/spec/volumes").and_then(Value::as_array);
        for volume in volumes.into_iter().flatten() {
            let name = text(volume, "/name")?;
            self.make_one(name, volume).await.with_context(|| format!("volume {name}"))?;
        }
        Ok(())
    }

    async fn make_one(&self, name: &str, volume: &Value) -> anyhow::Result<()> {
        let folder = self.folders.get(name).context("it has no folder")?;
        fs::create_dir_all(folder)?;
        let (files, mode) = if let Some(source) = volume.get("configMap") {
            (self.config_map(source).await?, 0o644)
        } else if let Some(source) = volume.get("secret") {
            (self.secret(text(source, "/secretName")?).await?, mode(source, 0o644))
        } else if let Some(projected) = volume.get("projected") {
            let mut files = Vec::new();
            for source in projected["sources"].as_array().into_iter().flatten() {
                files.extend(self.projected(source).await?);
            }
            (files, mode(projected, 0o644))
        } else if let Some(fields) = volume.get("downwardAPI") {
            let items = fields["items"].as_array().into_iter().flatten();
            let files = items.map(|item| self.field(item)).collect::<anyhow::Result<_>>()?;
            (files, mode(fields, 0o644))
        } else if ["emptyDir", "persistentVolumeClaim", "hostPath"]
            .iter()
            .any(|kind| volume.get(kind).is_some())
        {
            return Ok(());
        } else {
            bail!("of a kind that is unknown here: {volume}");
        };
        for File { path, content } in files {
            // Replaced as a kubelet does it: whole.
            let fresh = folder.join(format!("..{path}"));
            fs::write(&fresh, content)?;
            fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
            fs::rename(&fresh, folder.join(path))?;
        }
        Ok(())
    }

    async fn projected(&self, source: &Value) -> anyhow::Result<Vec<File>> {
        if let Some(token) = source.get("serviceAccountToken") {
            return Ok(vec![self.token(token).await?]);
        }
        if let Some(map) = source.get("configMap") {
            return self.config_map(map).await;
        }
        let items = source.pointer("/downwardAPI/items").and_then(Value::as_array);
        let items = items.with_context(|| format!("of a kind that is unknown here: {source}"))?;
        items.iter().map(|item| self.field(item)).collect()
    }

    async fn config_map(&self, source: &Value) -> anyhow::Result<Vec<File>> {
        let name = text(source, "/name")?;
        let path = format!("/api/v1/namespaces/{}/configmaps/{name}", self.namespace);
        let is_optional = source["optional"] == json!(true);
        let map = match self.api.ask("GET", &path, None).await {
            Ok(map) => map,
            Err(_) if is_optional => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = files(&map["data"], |value| Ok(value.as_bytes().to_vec()))?;
        if let Some(items) = source["items"].as_array() {
            files = items
                .iter()
                .map(|item| {
                    let key = text(item, "/key")?;
                    let at = files.iter().position(|file| file.path == key);
                    let at = at.with_context(|| format!("{name} has no key {key}"))?;
                    let content = files.get(at).map(|file| file.content.clone());
                    Ok(File {
                        path: text(item, "/path")?.to_owned(),
                        content: content.unwrap_or_default(),
                    })
                })
                .collect::<anyhow::Result<_>>()?;
        }
        Ok(files)
    }

    async fn secret(&self, name: &str) -> anyhow::Result<Vec<File>> {
        let path = format!("/api/v1/namespaces/{}/secrets/{name}", self.namespace);
        let secret = self.api.ask("GET", &path, None).await?;
        files(&secret["data"], |value| Ok(STANDARD.decode(value)?))
    }

    /// A token that is bound to the Pod.
    async fn token(&self, source: &Value) -> anyhow::Result<File> {
        let account = text(self.pod, "/spec/serviceAccountName")?;
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", self.namespace);
        let mut spec = json!({
            "expirationSeconds": source.get("expirationSeconds").unwrap_or(&json!(3600)),
            "boundObjectRef": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": text(self.pod, "/metadata/name")?,
                "uid": text(self.pod, "/metadata/uid")?,
            },
        });
        if let Some(audience) = source.get("audience") {
            spec["audiences"] = json!([audience]);
        }
        let answer = self.api.ask("POST", &path, Some(json!({ "spec": spec }))).await?;
        let content = text(&answer, "/status/token")?.as_bytes().to_vec();
        Ok(File { path: text(source, "/path")?.to_owned(), content })
    }

    fn field(&self, item: &Value) -> anyhow::Result<File> {
        let field = text(item, "/fieldRef/fieldPath")?;
        let content = text(self.pod, &pointer(field))?.as_bytes().to_vec();
        Ok(File { path: text(item, "/path")?.to_owned(), content })
    }
}

/// `metadata.name`, or `metadata.annotations['KEY']`, as a JSON pointer.
pub(super) fn pointer(field: &str) -> String {
    let (path, key) = field.split_once("['").unwrap_or((field, ""));
    let path = format!("/{}", path.replace('.', "/"));
    match key.strip_suffix("']") {
        Some(key) => format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")),
        None => path,
    }
}

pub(super) fn text<'v>(value: &'v Value, path: &str) -> anyhow::Result<&'v str> {
    value.pointer(path).and_then(Value::as_str).with_context(|| format!("no {path} in {value}"))
}

fn mode(source: &Value, default: u32) -> u32 {
    let mode = source["defaultMode"].as_u64().and_then(|mode| u32::try_from(mode).ok());
    mode.unwrap_or(default)
}

fn files(
    data: &Value,
    decode: impl Fn(&str) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<Vec<File>> {
    let entries = data.as_object().into_iter().flatten();
    entries
        .map(|(path, value)| {
            let content = decode(value.as_str().context("no text")?)?;
            Ok(File { path: path.clone(), content })
        })
        .collect()
}
