//! A life of this box that is over, fenced by headquarters or written by two boxes: what becomes of its entries, and how
//! the box comes back, step by step.
//!
//! One text for `doctor`, `status`, `leave` and `init`, so that none of them sends anybody to another that refuses.
//! Leaves to others: whether the life is over (`yika_crdt::gate`).

use crate::voice;
use yika_crdt::ids::{CampusId, NodeId};
use yika_ui::Lang;

/// The command that gives up a membership with entries that headquarters has not confirmed.
pub const LEAVE_ALL: &str = "yika-edge leave --yes --force";
/// The command that gives up any other.
pub const LEAVE: &str = "yika-edge leave --yes";

/// The steps by which the machine becomes a box again, in their order; Chinese and English.
pub fn way_back(node: NodeId, campus: CampusId) -> [String; 2] {
    [Lang::Zh, Lang::En].map(|lang| {
        voice::words_in(lang, "ended.way_back", &[("node", &node), ("campus", &campus), ("leave", &LEAVE_ALL)])
    })
}

/// What to think of entries that headquarters has not confirmed to this box: a sibling may have passed them on, and who
/// enters them again charges people twice. Chinese and English.
pub fn unconfirmed(node: NodeId) -> [String; 2] {
    [Lang::Zh, Lang::En].map(|lang| voice::words_in(lang, "ended.unconfirmed", &[("node", &node)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_names_every_command_in_the_order_in_which_none_refuses() {
        for text in way_back(NodeId(2), CampusId(1)) {
            let steps = [
                "yika-hub edge token create --campus c1 --replaces n2",
                "systemctl stop yika-edge",
                LEAVE_ALL,
                "yika-edge init --join '",
                "systemctl start yika-edge",
            ];
            let found: Vec<Option<usize>> = steps.iter().map(|step| text.find(step)).collect();
            assert!(found.iter().all(Option::is_some) && found.is_sorted(), "{found:?} in {text}");
        }
    }

    #[test]
    fn nobody_is_sent_to_enter_again_what_headquarters_may_have() {
        let [zh, en] = unconfirmed(NodeId(2));
        assert!(zh.contains("总部可能已") && zh.contains("先到总部查") && zh.contains("n2"), "{zh}");
        assert!(en.contains("may have") && en.contains("look there first") && en.contains("n2"), "{en}");
    }
}
