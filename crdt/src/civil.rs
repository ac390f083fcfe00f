//! Civil time: from milliseconds of hub time to the day, minute and weekday that rules speak of.
//!
//! Leaves to others: where the time comes from (`clock`) and which day a cut has opened (`edge`).

use crate::ids::Day;
use time::{Date, Duration, Month};

/// Minutes in a day.
pub const DAY_MINUTES: u16 = 1440;
/// Milliseconds in a day.
pub const DAY_MS: i64 = 86_400_000;

/// A moment in the civil calendar of one campus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    /// Calendar day (midnight to midnight, not the business day).
    pub day: Day,
    /// Minutes since midnight, 0..1440.
    pub minute: u16,
    /// 0 = Monday … 6 = Sunday.
    pub weekday: u8,
}

/// Civil time of `hub_time_ms` (UTC milliseconds since 1970) at `utc_offset_minutes` east of UTC.
pub fn civil(hub_time_ms: i64, utc_offset_minutes: i16) -> Civil {
    let local_ms = hub_time_ms.saturating_add(i64::from(utc_offset_minutes) * 60_000);
    let days = local_ms.div_euclid(DAY_MS).clamp(i64::from(i32::MIN), i64::from(i32::MAX));
    let minute = local_ms.rem_euclid(DAY_MS) / 60_000;
    // 1970-01-01 was a Thursday.
    let weekday = (days + 3).rem_euclid(7);
    Civil { day: Day(days as i32), minute: minute as u16, weekday: weekday as u8 }
}

/// Business day of `hub_time_ms` when days are cut `cut_minute` minutes after midnight.
pub fn business_day(hub_time_ms: i64, utc_offset_minutes: i16, cut_minute: u16) -> Day {
    civil(hub_time_ms.saturating_sub(i64::from(cut_minute) * 60_000), utc_offset_minutes).day
}

/// Calendar date of a day, if it lies within the years the calendar knows (±9999).
pub fn date_of(day: Day) -> Option<Date> {
    epoch().checked_add(Duration::days(i64::from(day.0)))
}

/// Day number of a calendar date.
pub fn day_of(date: Date) -> Day {
    let days = (date - epoch()).whole_days();
    Day(days.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32)
}

/// Weekday of a day, 0 = Monday.
pub fn weekday_of(day: Day) -> u8 {
    (i64::from(day.0) + 3).rem_euclid(7) as u8
}

fn epoch() -> Date {
    // The date is a constant that the calendar knows; the other arm cannot be taken.
    Date::from_calendar_date(1970, Month::January, 1).unwrap_or(Date::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noon_in_beijing() {
        // 2026-11-24 04:30 UTC = 12:30 at +08:00, a Tuesday.
        let ms = 1_795_494_600_000;
        let at = civil(ms, 480);
        assert_eq!((at.minute, at.weekday), (12 * 60 + 30, 1));
        assert_eq!(at.day.to_string(), "2026-11-24");
        assert_eq!(day_of(date_of(at.day).unwrap_or(Date::MIN)), at.day);
    }

    #[test]
    fn the_night_meal_belongs_to_the_day_before_the_cut() {
        // 01:00 local with a cut at 03:00.
        let ms = 1_795_494_600_000 + (12 * 60 + 30) * 60_000;
        assert_eq!(civil(ms, 480).day.to_string(), "2026-11-25");
        assert_eq!(business_day(ms, 480, 180).to_string(), "2026-11-24");
    }
}
