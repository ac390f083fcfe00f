//! How large a backup is and how long it takes: `cargo run --release -p yika-hub --example backup_scale -- 100000`.
//!
//! A new hub, invented people imported by the desk, one backup with its proof; one line of JSON.

use anyhow::{Context, Result};
use std::sync::Arc;
use yika_crdt::docs::shard_count_for;
use yika_crdt::entry::CampusRecord;
use yika_crdt::ids::CampusId;
use yika_hub::backup::Backups;
use yika_hub::desk::{Actor, Desk};
use yika_hub::identity::HubIdentity;
use yika_hub::import::{Lang, demo_people};
use yika_hub::node::HubNode;

const CAMPUS: &str = "东校区";

#[tokio::main]
async fn main() -> Result<()> {
    let people: u32 =
        std::env::args().nth(1).map_or(Ok(100_000), |n| n.parse()).context("usage: backup_scale [people]")?;
    let dir = std::env::temp_dir().join(format!("backup_scale.{}", std::process::id()));
    let (data, to) = (dir.join("hub"), dir.join("backups"));
    HubIdentity::init(&data, "总部")?;
    let identity = HubIdentity::load(&data)?;
    let (node, _thread) = tokio::task::block_in_place(|| HubNode::start(&identity, &data))?;
    let backups = Backups::new(data.clone(), to, 1, String::new());
    let desk = Desk::new(node, String::new(), identity.authority.pin()).with_backups(Arc::new(backups));
    let actor = Actor::console();
    let campus = CampusRecord {
        campus: CampusId(1),
        name: CAMPUS.to_owned(),
        utc_offset_minutes: 480,
        cut_minute: 180,
        people_shards: shard_count_for(people),
    };
    desk.put_campus(&actor, campus).await?;
    let file = demo_people(1, &[CAMPUS], usize::try_from(people)?)?;
    let report = desk.import_people(&actor, "people.xlsx", file, false, Lang::En, Arc::new(|_, _| {})).await?;
    let made = desk.create_backup(&actor, None).await?;
    let database = std::fs::metadata(data.join("hub.db"))?.len();
    let line = serde_json::json!({
        "people": report.new, "database_bytes": database, "backup_bytes": made.bytes, "made_and_proved_ms": made.took_ms,
    });
    std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{line}\n"))?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
