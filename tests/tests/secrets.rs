//! Invariant 10 from outside: everything that the programs wrote is searched for plain keys, passwords and tokens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::path::{Path, PathBuf};
use std::time::Duration;
use yika_edge::identity::Identity;
use yika_hub::identity::HubIdentity;
use yika_tests::crowd::Crowd;
use yika_tests::http::Client;
use yika_tests::world::World;

const SETTLE: Duration = Duration::from_secs(60);

/// What must not be found, and in which of the forms that a program might write it.
struct Secret {
    name: String,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    fn of_bytes(name: &str, secret: &[u8]) -> Secret {
        let hex = hex::encode(secret);
        let texts = [
            hex.to_uppercase(),
            hex,
            STANDARD_NO_PAD.encode(secret),
            STANDARD.encode(secret),
            URL_SAFE_NO_PAD.encode(secret),
            format!("{secret:?}"),
        ];
        let forms = std::iter::once(secret.to_vec()).chain(texts.map(String::into_bytes)).collect();
        Secret { name: name.to_owned(), forms }
    }

    fn of_text(name: &str, secret: &str) -> Secret {
        let mut this = Secret::of_bytes(name, secret.as_bytes());
        this.forms.push(secret.encode_utf16().flat_map(u16::to_le_bytes).collect());
        this
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| contains(bytes, form))
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == wanted[0]) {
        rest = &rest[at..];
        if rest.starts_with(wanted) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// What the programs keep and say: data folders with databases, logs, backups, and what they printed while serving.
fn written(world: &World, work: &Path) -> Vec<PathBuf> {
    let mut all = files(&world.hub.dir);
    all.extend(files(&work.join("backups")));
    all.push(work.join("snapshot.stick"));
    for edge in &world.boxes {
        all.extend(files(&edge.dir));
    }
    let said = |dir: &Path, name: &str| ["out", "err"].map(|end| dir.join(format!("{name}.{end}")));
    all.extend(said(work, "hub").into_iter().filter(|file| file.exists()));
    all
}

/// Where a secret lies by design: a file that only its user reads, beside no database that is copied.
fn is_its_own_file(file: &Path, secret: &Secret) -> bool {
    let name = file.file_name().unwrap().to_string_lossy();
    (secret.name == "master key" && name == "master.key")
        || (secret.name.starts_with("key of") && name == "node.key")
        || (secret.name.starts_with("endpoint of") && name == "endpoint.key")
}

async fn secrets(world: &World) -> Vec<Secret> {
    let mut secrets = Vec::new();
    for till in world.tills.iter().flatten().chain([&world.reader]) {
        let key = hex::decode(&till.key).unwrap();
        secrets.push(Secret::of_bytes(&format!("terminal key of t{}", till.terminal), &key));
    }
    for operator in &world.operators {
        secrets.push(Secret::of_text(&format!("password of {}", operator.login), &operator.password));
    }
    secrets.push(Secret::of_text("first password", &world.hub.admin_password));
    let line = world.hub.command(&["edge", "token", "create", "--campus", "c1"]).await.unwrap();
    // yika-join:address/pin/token/check, each in base64.
    let token = URL_SAFE_NO_PAD.decode(line.trim().rsplit('/').nth(1).unwrap()).unwrap();
    secrets.push(Secret::of_bytes("token", &token));
    secrets.push(Secret::of_bytes("master key", &std::fs::read(world.hub.dir.join("master.key")).unwrap()));
    let hub = HubIdentity::load(&world.hub.dir).unwrap();
    secrets.push(Secret::of_bytes("headquarters' key", &hub.key.to_bytes()));
    for edge in &world.boxes {
        let identity = Identity::load(&edge.dir.join("data")).unwrap().unwrap();
        secrets.push(Secret::of_bytes(&format!("key of {}", edge.name), &identity.key.to_bytes()));
    }
    secrets
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_10_no_plain_key_password_or_token_lies_in_databases_backups_or_logs() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::build(dir.path(), 6, &|_| {}).await.unwrap();
    let secrets = secrets(&world).await;
    assert!(secrets.len() > 14, "{}", secrets.len());
    // Everything is used once: keys sign, passwords are typed, a backup and a stick are made.
    let crowd = Crowd::start(dir.path(), "rush", &world.plan(1, 2, 1)).await.unwrap();
    assert!(crowd.finish().await.unwrap().approved > 0);
    for (url, operator) in [(world.boxes[0].url(), &world.operators[0]), (world.hub.url(), &world.operators[0])] {
        let fields = [("login", operator.login.as_str()), ("password", operator.password.as_str())];
        Client::new(url).submit("/login", "/login", &fields).await.unwrap().expect_status(303).unwrap();
    }
    let wrong = [("login", "admin"), ("password", world.operators[1].password.as_str())];
    let _ = Client::new(world.hub.url()).submit("/login", "/login", &wrong).await.unwrap();
    world.settle(SETTLE).await.unwrap();
    let to = dir.path().join("backups");
    std::fs::create_dir_all(&to).unwrap();
    world.hub.command(&["backup", "create", "--to", &to.to_string_lossy()]).await.unwrap();
    let stick = dir.path().join("snapshot.stick");
    world.hub.command(&["snapshot", "export", "--campus", "c1", &stick.to_string_lossy()]).await.unwrap();

    // Once while they run, with their logs not folded back, and once at rest.
    assert_nothing_is_plain(&world, dir.path(), &secrets);
    world.stop().await.unwrap();
    assert_nothing_is_plain(&world, dir.path(), &secrets);
}

fn assert_nothing_is_plain(world: &World, work: &Path, secrets: &[Secret]) {
    let name = Secret::of_text("a name that is no secret", &world.people[0].name);
    let (mut named, mut own_files) = (0, 0);
    let all = written(world, work);
    assert!(all.len() > 30, "{all:?}");
    for file in all {
        let bytes = std::fs::read(&file).unwrap();
        named += usize::from(name.is_in(&bytes));
        for secret in secrets.iter().filter(|secret| secret.is_in(&bytes)) {
            assert!(is_its_own_file(&file, secret), "{} stands plain in {}", secret.name, file.display());
            own_files += 1;
        }
    }
    // The search finds what is there.
    assert!(named >= 4, "a name was found in {named} files only");
    assert!(own_files >= 4, "only {own_files} key files hold their own key");
}
