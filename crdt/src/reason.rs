//! The one closed list of refusals, with the words for the holder and for the operator (POS-25).
//!
//! Codes are stable: terminals, reports and tests name them. Words live with the pages; the English below is for
//! logs and the terminal interface's `detail`.

use serde::{Deserialize, Serialize};

/// Why a card was refused at a till or a door.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Reason {
    /// The card is not known at this box.
    UnknownCard,
    /// The card or its holder is blocked: reported lost, frozen, cancelled.
    Blocked,
    /// The card or the holder's record is not active: not yet, expired, left.
    NotActive,
    /// This category may not spend at this outlet.
    NotHere,
    /// No meal period is open and the mode needs one.
    OutsidePeriod,
    /// No price for this category, outlet and period.
    NoPrice,
    /// The sum is not positive, or beyond what a purchase can be.
    BadAmount,
    /// Over the cap of a single purchase.
    OverPurchaseLimit,
    /// Over the cap of this meal.
    OverMealLimit,
    /// Over the cap of this day.
    OverDayLimit,
    /// Too many purchases in this meal.
    OverMealTimes,
    /// Too many purchases today.
    OverDayTimes,
    /// The same card, terminal and amount a moment ago.
    RepeatTap,
    /// Not enough right at this box, and none to be had in time.
    NotEnough,
    /// The box may not spend: its lease is over or it is fenced.
    NoLease,
    /// The terminal is suspended or not of this box.
    TerminalNotAllowed,
    /// This id was voided by a reversal that came first.
    Voided,
    /// The id was used before with another body.
    IdReused,
    /// The id is older than what this box still remembers.
    TooOld,
    /// The door is not in any group of the holder.
    NoDoorRight,
    /// The holder's groups do not open this door at this time.
    OutsideDoorTime,
    /// The box cannot write, or its clock cannot be trusted.
    BoxNotReady,
    /// The sale to give back is not known here, or not of this box.
    NoSuchSale,
    /// More would be given back than was paid.
    OverRefund,
    /// The business day of the sale is cut; only headquarters may give back.
    DayCut,
}

impl Reason {
    /// Every reason, in code order.
    pub const ALL: [Reason; 25] = [
        Reason::UnknownCard,
        Reason::Blocked,
        Reason::NotActive,
        Reason::NotHere,
        Reason::OutsidePeriod,
        Reason::NoPrice,
        Reason::BadAmount,
        Reason::OverPurchaseLimit,
        Reason::OverMealLimit,
        Reason::OverDayLimit,
        Reason::OverMealTimes,
        Reason::OverDayTimes,
        Reason::RepeatTap,
        Reason::NotEnough,
        Reason::NoLease,
        Reason::TerminalNotAllowed,
        Reason::Voided,
        Reason::IdReused,
        Reason::TooOld,
        Reason::NoDoorRight,
        Reason::OutsideDoorTime,
        Reason::BoxNotReady,
        Reason::NoSuchSale,
        Reason::OverRefund,
        Reason::DayCut,
    ];

    /// The stable code in interfaces, reports and word files.
    pub fn code(self) -> &'static str {
        match self {
            Reason::UnknownCard => "unknown_card",
            Reason::Blocked => "blocked",
            Reason::NotActive => "not_active",
            Reason::NotHere => "not_here",
            Reason::OutsidePeriod => "outside_period",
            Reason::NoPrice => "no_price",
            Reason::BadAmount => "bad_amount",
            Reason::OverPurchaseLimit => "over_purchase_limit",
            Reason::OverMealLimit => "over_meal_limit",
            Reason::OverDayLimit => "over_day_limit",
            Reason::OverMealTimes => "over_meal_times",
            Reason::OverDayTimes => "over_day_times",
            Reason::RepeatTap => "repeat_tap",
            Reason::NotEnough => "not_enough",
            Reason::NoLease => "no_lease",
            Reason::TerminalNotAllowed => "terminal_not_allowed",
            Reason::Voided => "voided",
            Reason::IdReused => "id_reused",
            Reason::TooOld => "too_old",
            Reason::NoDoorRight => "no_door_right",
            Reason::OutsideDoorTime => "outside_door_time",
            Reason::BoxNotReady => "box_not_ready",
            Reason::NoSuchSale => "no_such_sale",
            Reason::OverRefund => "over_refund",
            Reason::DayCut => "day_cut",
        }
    }

    /// For the holder, short enough for a terminal's display: Chinese, then English.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Reason::UnknownCard => ("无此卡", "Unknown card"),
            Reason::Blocked => ("卡已挂失或冻结", "Card is blocked"),
            Reason::NotActive => ("卡未启用或已过期", "Card is not active"),
            Reason::NotHere => ("本机不可用此卡", "Not at this machine"),
            Reason::OutsidePeriod => ("非就餐时段", "Outside meal hours"),
            Reason::NoPrice => ("未设定价格", "No price set"),
            Reason::BadAmount => ("金额无效", "Invalid amount"),
            Reason::OverPurchaseLimit => ("超过单笔限额", "Over the purchase limit"),
            Reason::OverMealLimit => ("超过本餐限额", "Over the meal limit"),
            Reason::OverDayLimit => ("超过当日限额", "Over the daily limit"),
            Reason::OverMealTimes => ("本餐次数已满", "No more meals this period"),
            Reason::OverDayTimes => ("当日次数已满", "No more meals today"),
            Reason::RepeatTap => ("请勿重复刷卡", "Tapped twice"),
            Reason::NotEnough => ("余额不足", "Not enough money"),
            Reason::NoLease => ("本机暂停扣款,请联系管理员", "This box may not charge"),
            Reason::TerminalNotAllowed => ("终端已停用", "Terminal suspended"),
            Reason::Voided => ("交易已冲正", "Already reversed"),
            Reason::IdReused => ("流水号重复", "Number used before"),
            Reason::TooOld => ("流水过旧", "Record too old"),
            Reason::NoDoorRight => ("无此门权限", "No access to this door"),
            Reason::OutsideDoorTime => ("不在通行时段", "Outside access hours"),
            Reason::BoxNotReady => ("设备故障,请稍候", "Device not ready"),
            Reason::NoSuchSale => ("未找到原交易", "Sale not found"),
            Reason::OverRefund => ("超过可退金额", "Over the sum paid"),
            Reason::DayCut => ("已日结,请到总部办理", "Day is closed; see headquarters"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Rows POS-25.
    #[test]
    fn codes_are_distinct_and_every_reason_has_words() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|r| r.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().all(|r| !r.words().0.is_empty() && r.words().1.len() <= 40));
    }
}
