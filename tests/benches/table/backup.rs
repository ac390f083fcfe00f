//! A backup of headquarters with 100,000 people, made and proved by putting it back.

use crate::size::Size;
use crate::table::Row;
use anyhow::Result;
use std::sync::Arc;
use yika_crdt::docs::shard_count_for;
use yika_crdt::entry::CampusRecord;
use yika_crdt::ids::CampusId;
use yika_hub::backup::Backups;
use yika_hub::desk::{Actor, Desk};
use yika_hub::identity::HubIdentity;
use yika_hub::import::{Lang, demo_people};
use yika_hub::node::HubNode;

const PEOPLE: Size<u32> = Size(100_000, 200);
const CAMPUS: &str = "东校区";

pub async fn rows() -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let (data, to) = (dir.path().join("hub"), dir.path().join("backups"));
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
        people_shards: shard_count_for(PEOPLE.get()),
    };
    desk.put_campus(&actor, campus).await?;
    let file = demo_people(1, &[CAMPUS], PEOPLE.get() as usize)?;
    desk.import_people(&actor, "people.xlsx", file, false, Lang::En, Arc::new(|_, _| {})).await?;
    let made = desk.create_backup(&actor, None).await?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let database = mib(std::fs::metadata(data.join("hub.db"))?.len());
    let row = Row::new("backup of headquarters, 100,000 people").value(made.took_ms as f64 / 1e3, "s");
    let note =
        format!("made, sealed and put back; {:.0} MiB of a database of {database:.0} MiB", mib(made.bytes as u64));
    Ok(vec![row.note(note)])
}
