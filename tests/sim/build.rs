//! Collects the marks and the faults that stand in the cores and in the imitated shell, so that none is forgotten: a run
//! must hit every mark, and find every fault.

use std::collections::BTreeSet;
use std::path::Path;

/// Where they stand.
const SOURCES: [&str; 3] = ["../../crdt/src", "../../hub/core/src", "src"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut marks, mut faults) = (BTreeSet::new(), BTreeSet::new());
    for folder in SOURCES {
        println!("cargo::rerun-if-changed={folder}");
        read(Path::new(folder), &mut marks, &mut faults)?;
    }
    let list = |name: &str, what: &str, names: BTreeSet<String>| {
        format!("/// {what}\npub const {name}: &[&str] = &{:?};\n", names.into_iter().collect::<Vec<_>>())
    };
    let text = list("MARKS", "Every mark of a rare branch.", marks) + &list("FAULTS", "Every fault.", faults);
    let out = std::env::var("OUT_DIR")?;
    Ok(std::fs::write(Path::new(&out).join("proof.rs"), text)?)
}

fn read(folder: &Path, marks: &mut BTreeSet<String>, faults: &mut BTreeSet<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read(&path, marks, faults)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path)?;
            marks.extend(names(&text, concat!("proof::", "hit(\"")));
            faults.extend(names(&text, concat!("proof::", "sown(\"")));
        }
    }
    Ok(())
}

fn names(text: &str, call: &str) -> Vec<String> {
    text.split(call).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}
