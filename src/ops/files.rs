//! Operations on the files of a datastore: looked at, read, written, made, copied, moved, deleted.
//!
//! A path is relative to its datastore and never leaves it. Nothing is overwritten. What a registered machine is made of is neither
//! moved nor deleted here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::linked::refuse_with_clones_on;
use crate::door::Pass;
use crate::door::bind::Binder;
use crate::door::datastores::BoundDatastore;
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi::{self, FilePath};
use crate::units::Bytes;

/// The most that is read into a script, or written out of one, at once.
const LARGEST_TEXT: u64 = 1 << 20;

pub const fn method(name: &'static str) -> Place {
    Place::Method { kind: "datastore", name }
}

pub const fn on(verb: &'static str) -> Touch {
    touch("datastore", verb, Selector::Argument("datastore"))
}

/// Lists what a folder of the datastore holds, in the order of the paths.
///
/// Errors: `esxi.file_not_found` where there is no such folder.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Browse {
    /// The datastore.
    pub datastore: Target<kind::Datastore>,
    /// The folder. Default: the datastore's root.
    pub path: Option<String>,
    /// What a file's name must match; `*` and `?` stand for any characters. Default: all files.
    pub pattern: Option<String>,
    /// Whether the folders below are listed too. Default: false.
    pub recursive: Option<bool>,
}

/// A file or folder on a datastore.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DatastoreFile {
    /// Its path on the datastore.
    pub path: String,
    /// What it is.
    #[schemars(extend("enum" = ["folder", "disk", "config", "nvram", "log", "snapshot", "iso", "floppy", "file"]))]
    pub r#type: &'static str,
    /// How long it is; of a disk, what its content takes up; nil for a folder.
    pub size: Option<Bytes>,
    /// When it was changed last, as the host writes it: RFC 3339.
    pub modified: Option<String>,
}

impl Operation for Browse {
    const NAME: &'static str = "datastore.browse";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = method("browse");
    const TOUCHES: &'static [Touch] = &[on("read")];
    const USAGE: &'static str = "for _, file in host:datastore(\"datastore1\"):browse({ path = \"debian-12\", pattern = \"*.vmdk\" }) do\n  print(file.path, file.type, file.size)\nend";

    type Bound = (BoundDatastore, FilePath);
    type Output = Vec<DatastoreFile>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let path = FilePath::parse(self.path.as_deref().unwrap_or_default())?;
        if let Some(pattern) = &self.pattern
            && (pattern.is_empty()
                || pattern.len() > 255
                || pattern.contains(['/', '\\'])
                || pattern.chars().any(char::is_control))
        {
            return Err(Fault::new("usage.argument", format!("{}: pattern: is matched by no file's name", Self::NAME))
                .hint("such as *.iso; it is held against names, not against paths"));
        }
        Ok((binder.datastore_of(&self.datastore, &["read"]).await?, path))
    }

    async fn act(self, (bound, path): Self::Bound, _: &Pass<'_>) -> Result<Self::Output, Fault> {
        let search = esxi::Search { pattern: self.pattern.as_deref(), deep: self.recursive == Some(true) };
        let rows = bound.host.client.browse(&bound.datastore, &path, search).await?;
        let row = |row: esxi::FileRow| DatastoreFile {
            path: row.path,
            r#type: row.kind,
            size: row.size,
            modified: row.modified,
        };
        Ok(rows.into_iter().map(row).collect())
    }
}

/// Reads a small file of text, at most 1 MiB.
///
/// Errors: `esxi.file_not_found`, `esxi.file_refused` where a running machine holds it, `limit.text`, `usage.text` where it is not UTF-8.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadText {
    /// The datastore.
    pub datastore: Target<kind::Datastore>,
    /// The file.
    pub path: String,
}

impl Operation for ReadText {
    const NAME: &'static str = "datastore.read_text";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = method("read_text");
    const POSITIONAL: &'static [&'static str] = &["path"];
    const TOUCHES: &'static [Touch] = &[on("copy_from")];
    const USAGE: &'static str = "print(host:datastore(\"datastore1\"):read_text(\"debian-12/debian-12.vmx\"))";

    type Bound = (BoundDatastore, FilePath);
    type Output = String;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        binder.file_of(&self.datastore, &["copy_from"], &self.path).await
    }

    async fn act(self, (bound, path): Self::Bound, _: &Pass<'_>) -> Result<String, Fault> {
        let bytes = bound.host.client.read_small(&bound.datastore, &path, LARGEST_TEXT).await?;
        String::from_utf8(bytes).map_err(|_| {
            Fault::new("usage.text", format!("{} is not UTF-8 text", path.on(&bound.datastore.name)))
                .hint("download it instead: ceso datastore download")
        })
    }
}

/// Writes a small file of text, at most 1 MiB, where nothing is yet.
///
/// Errors: `esxi.file_already_exists`, `esxi.file_not_found` where its folder is not there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteText {
    /// The datastore.
    pub datastore: Target<kind::Datastore>,
    /// The file.
    pub path: String,
    /// What it is to hold.
    pub content: String,
}

impl Operation for WriteText {
    const NAME: &'static str = "datastore.write_text";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("write_text");
    const POSITIONAL: &'static [&'static str] = &["path", "content"];
    const TOUCHES: &'static [Touch] = &[on("write")];
    const CONTENTS: &'static [&'static str] = &["content"];
    const USAGE: &'static str = "local store = host:datastore(\"datastore1\")\nstore:write_text(\"notes.txt\", \"built by a playbook\")\nstore:delete(\"notes.txt\")";

    type Bound = (BoundDatastore, FilePath);
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        if self.content.len() as u64 > LARGEST_TEXT {
            return Err(Fault::new("limit.text", format!("{}: content: has more than 1 MiB", Self::NAME))
                .hint("upload a file instead: ceso datastore upload"));
        }
        binder.file_of(&self.datastore, &["write"], &self.path).await
    }

    async fn act(self, (bound, path): Self::Bound, pass: &Pass<'_>) -> Result<(), Fault> {
        let bytes = bytes::Bytes::from(self.content);
        let length = bytes.len() as u64;
        let open =
            || -> std::io::Result<Box<dyn std::io::Read + Send>> { Ok(Box::new(std::io::Cursor::new(bytes.clone()))) };
        let content = esxi::Content { length, open: &open, sum: esxi::Sum::No };
        bound.host.client.upload(&bound.datastore, &path, content, &|step| pass.step(step)).await?;
        pass.made_file(&bound.host, &bound.datastore, &path);
        Ok(())
    }
}

/// Makes a folder. Errors: `esxi.file_already_exists`, `esxi.file_not_found` where the one above it is not there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MakeDirectory {
    /// The datastore.
    pub datastore: Target<kind::Datastore>,
    /// The folder.
    pub path: String,
    /// Whether the folders above it are made too, and one that is there is taken as it is. Default: false.
    pub parents: Option<bool>,
}

impl Operation for MakeDirectory {
    const NAME: &'static str = "datastore.make_directory";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("make_directory");
    const POSITIONAL: &'static [&'static str] = &["path"];
    const TOUCHES: &'static [Touch] = &[on("write")];
    const USAGE: &'static str =
        "local store = host:datastore(\"datastore1\")\nstore:make_directory(\"isos\")\nstore:delete(\"isos\")";

    type Bound = (BoundDatastore, FilePath);
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        binder.file_of(&self.datastore, &["write"], &self.path).await
    }

    async fn act(self, (bound, path): Self::Bound, pass: &Pass<'_>) -> Result<(), Fault> {
        let parents = self.parents == Some(true);
        match bound.host.client.make_directory(&bound.datastore, &path, parents).await {
            Ok(()) => {}
            Err(error) if parents && error.is("FileAlreadyExists") => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        // With parents the host does not say which were there: what is not known to be made is not the run's to delete.
        if !parents {
            pass.made_file(&bound.host, &bound.datastore, &path);
        }
        Ok(())
    }
}

/// Copies a file, a folder or a virtual disk to where nothing is yet; a disk keeps its form, and thin stays thin.
///
/// Errors: `esxi.file_already_exists`, `esxi.file_not_found`, `esxi.file_locked` where a running machine holds it,
/// `esxi.no_disk_space`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The datastore.
    pub datastore: Target<kind::Datastore>,
    /// What is copied.
    pub from: String,
    /// Where to: the path of the copy itself.
    pub to: String,
    /// The name of the datastore that it goes to. Default: the same.
    pub to_datastore: Option<String>,
}

/// Two places, checked.
pub struct BoundTwo {
    pub from: (BoundDatastore, FilePath),
    pub to: (esxi::checked::Checked<esxi::Datastore>, FilePath),
}

/// Binds where something comes from and where it goes.
pub async fn bind_two(
    binder: &Binder<'_>,
    datastore: &Target<kind::Datastore>,
    verbs: &[&'static str],
    (from, to): (&str, &str),
    to_datastore: Option<&str>,
) -> Result<BoundTwo, Fault> {
    let to = FilePath::below_root(to)?;
    if to_datastore.is_none_or(|name| name == datastore.name) && to.is_in(&FilePath::below_root(from)?) {
        return Err(
            Fault::new("usage.argument", format!("to: {to} is {from}, or lies in it")).hint("choose another place")
        );
    }
    let from = binder.file_of(datastore, verbs, from).await?;
    let target = binder.datastore_beside(&from.0, to_datastore, "write").await?;
    Ok(BoundTwo { from, to: (target, to) })
}

impl Operation for Copy {
    const NAME: &'static str = "datastore.copy";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("copy");
    const TOUCHES: &'static [Touch] =
        &[on("copy_from"), touch("datastore", "write", Selector::Argument("to_datastore"))];
    const USAGE: &'static str = "local store = host:datastore(\"datastore1\")\nstore:copy({ from = \"debian-12/debian-12.vmx\", to = \"kept.vmx\" })\nstore:delete(\"kept.vmx\")";

    type Bound = BoundTwo;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundTwo, Fault> {
        bind_two(binder, &self.datastore, &["copy_from"], (&self.from, &self.to), self.to_datastore.as_deref()).await
    }

    async fn act(
        self,
        BoundTwo { from: (bound, from), to: (store, to) }: BoundTwo,
        pass: &Pass<'_>,
    ) -> Result<(), Fault> {
        let client = &bound.host.client;
        client.copy_path((&bound.datastore, &from), (&store, &to), &|step| pass.step(step)).await?;
        pass.made_file(&bound.host, &store, &to);
        Ok(())
    }
}

/// Moves a file, a folder or a virtual disk to where nothing is yet.
///
/// Errors: `esxi.in_use` for what a registered machine is made of, `esxi.has_linked_clones` for what other machines build on,
/// `esxi.file_already_exists`, `esxi.file_not_found`, `esxi.file_locked`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The datastore.
    pub datastore: Target<kind::Datastore>,
    /// What is moved.
    pub from: String,
    /// Where to: its new path.
    pub to: String,
    /// The name of the datastore that it goes to. Default: the same.
    pub to_datastore: Option<String>,
}

impl Operation for Move {
    const NAME: &'static str = "datastore.move";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("move");
    const TOUCHES: &'static [Touch] =
        &[on("copy_from"), on("delete"), touch("datastore", "write", Selector::Argument("to_datastore"))];
    const USAGE: &'static str = "local store = host:datastore(\"datastore1\")\nstore:write_text(\"a.txt\", \"x\")\nstore:move({ from = \"a.txt\", to = \"b.txt\" })\nstore:delete(\"b.txt\")";

    type Bound = BoundTwo;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundTwo, Fault> {
        let verbs = &["copy_from", "delete"];
        bind_two(binder, &self.datastore, verbs, (&self.from, &self.to), self.to_datastore.as_deref()).await
    }

    async fn act(
        self,
        BoundTwo { from: (bound, from), to: (store, to) }: BoundTwo,
        pass: &Pass<'_>,
    ) -> Result<(), Fault> {
        refuse_with_clones_on(&bound, &from, pass, "moved").await?;
        let client = &bound.host.client;
        client.move_path((&bound.datastore, &from), (&store, &to), &|step| pass.step(step)).await?;
        pass.moved_file(&bound.host, (&bound.datastore, &from), (&store, &to));
        Ok(())
    }
}

/// Deletes a file, a virtual disk with its content, or a folder with all that is in it, for good.
///
/// Errors: `esxi.in_use` for what a registered machine is made of, and each folder that holds such a thing; `esxi.has_linked_clones`
/// for what other machines build on; `esxi.file_not_found`, `esxi.file_locked`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// The datastore.
    pub datastore: Target<kind::Datastore>,
    /// What is deleted.
    pub path: String,
}

impl Operation for Delete {
    const NAME: &'static str = "datastore.delete";
    const EFFECT: Effect = Effect::Destroy;
    const PLACE: Place = method("delete");
    const POSITIONAL: &'static [&'static str] = &["path"];
    const TOUCHES: &'static [Touch] = &[on("delete")];
    const USAGE: &'static str =
        "local store = host:datastore(\"datastore1\")\nstore:make_directory(\"old\")\nstore:delete(\"old\")";

    type Bound = (BoundDatastore, FilePath);
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        binder.file_of(&self.datastore, &["delete"], &self.path).await
    }

    async fn act(self, (bound, path): Self::Bound, pass: &Pass<'_>) -> Result<(), Fault> {
        refuse_with_clones_on(&bound, &path, pass, "deleted").await?;
        bound.host.client.delete_path(&bound.datastore, &path, &|step| pass.step(step)).await?;
        pass.unmade_file(&bound.host, &bound.datastore, &path);
        Ok(())
    }
}
