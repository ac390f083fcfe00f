//! Answers and small models that templates show: a rendered template, pager, sortable column, steps.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

use crate::error::{Saved, UiError};
use crate::page::{Toast, Tone};

/// A template as an answer.
#[derive(Debug)]
pub struct View<T> {
    template: T,
    status: StatusCode,
    toast: Option<Toast>,
}

impl<T: Template> View<T> {
    /// 200.
    pub fn new(template: T) -> View<T> {
        View { template, status: StatusCode::OK, toast: None }
    }

    /// 422: the same form again, with its errors. htmx swaps it like any answer.
    pub fn invalid(template: T) -> View<T> {
        View { status: StatusCode::UNPROCESSABLE_ENTITY, ..View::new(template) }
    }

    /// Shows a toast with an answer to htmx. (A whole page sets [`crate::Page::toast`].)
    pub fn toast(mut self, tone: Tone, text: impl Into<String>) -> View<T> {
        self.toast = Some(Toast { tone, text: text.into() });
        self
    }
}

impl<T: Template> IntoResponse for View<T> {
    fn into_response(self) -> Response {
        let body = match self.template.render() {
            Ok(body) => body,
            Err(error) => {
                let detail = format!("template {}: {error}", std::any::type_name::<T>());
                return UiError::internal(detail, Saved::Unknown).into_response();
            }
        };
        let mut response = (self.status, Html(body)).into_response();
        let trigger = self.toast.and_then(|toast| toast.trigger().parse().ok());
        if let Some(value) = trigger {
            response.headers_mut().insert("hx-trigger", value);
        }
        response
    }
}

/// Pages by number, for lists whose total is known and small enough to count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pager {
    /// Page shown, from 1.
    pub page: u64,
    /// Rows a page.
    pub rows_per_page: u64,
    /// Rows in all.
    pub rows_total: u64,
    /// Address of a page without the page number, ending in `?` or `&` (`/people?q=li&`).
    pub base: String,
}

impl Pager {
    /// A pager; page and size are brought into range.
    pub fn new(page: u64, rows_per_page: u64, rows_total: u64, base: impl Into<String>) -> Pager {
        let rows_per_page = rows_per_page.max(1);
        let last = rows_total.div_ceil(rows_per_page).max(1);
        Pager { page: page.clamp(1, last), rows_per_page, rows_total, base: base.into() }
    }

    /// Number of the last page, at least 1.
    pub fn last(&self) -> u64 {
        self.rows_total.div_ceil(self.rows_per_page).max(1)
    }

    /// Rows before the page shown.
    pub fn offset(&self) -> u64 {
        (self.page - 1) * self.rows_per_page
    }

    /// Number of the first row shown; 0 when there is none.
    pub fn first_row(&self) -> u64 {
        if self.rows_total == 0 { 0 } else { self.offset() + 1 }
    }

    /// Number of the last row shown.
    pub fn last_row(&self) -> u64 {
        (self.offset() + self.rows_per_page).min(self.rows_total)
    }

    /// Page numbers to show: the ends, the page and two neighbours a side; `None` stands for a gap.
    pub fn numbers(&self) -> Vec<Option<u64>> {
        let last = self.last();
        let around = self.page.saturating_sub(2).max(1)..=(self.page + 2).min(last);
        let mut wanted: Vec<u64> = std::iter::once(1).chain(around).chain([last]).collect();
        wanted.dedup();
        let mut out = Vec::new();
        let mut before = 0;
        for n in wanted {
            if n - before > 1 {
                out.push(None);
            }
            out.push(Some(n));
            before = n;
        }
        out
    }

    /// The numbers as links.
    pub fn links(&self) -> Vec<PageLink> {
        let link = |number: Option<u64>| PageLink {
            text: number.map_or("…".to_owned(), |n| n.to_string()),
            href: number.map(|n| self.href(n)),
            current: number == Some(self.page),
        };
        self.numbers().into_iter().map(link).collect()
    }

    /// Address of the page before, if there is one.
    pub fn prev_href(&self) -> Option<String> {
        (self.page > 1).then(|| self.href(self.page - 1))
    }

    /// Address of the page after, if there is one.
    pub fn next_href(&self) -> Option<String> {
        (self.page < self.last()).then(|| self.href(self.page + 1))
    }

    /// Address of a page.
    pub fn href(&self, page: u64) -> String {
        format!("{}page={page}", self.base)
    }
}

/// A number of the pager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageLink {
    /// The number, or `…` for a gap.
    pub text: String,
    /// Address; `None` for a gap.
    pub href: Option<String>,
    /// Whether it is the page shown.
    pub current: bool,
}

/// Sorting of a table: which column, which way. State lives in the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    /// Column's code.
    pub column: String,
    /// Largest first.
    pub descending: bool,
    /// Address without the sort, ending in `?` or `&`.
    pub base: String,
}

impl Sort {
    /// Address that sorts by a column, the other way if it is sorted by it already.
    pub fn href(&self, column: &str) -> String {
        let way = if self.column == column && !self.descending { "-" } else { "" };
        format!("{}sort={way}{column}", self.base)
    }

    /// Value of `aria-sort` for a column.
    pub fn aria(&self, column: &str) -> &'static str {
        match (self.column == column, self.descending) {
            (true, true) => "descending",
            (true, false) => "ascending",
            _ => "none",
        }
    }
}

/// A step of a stepper.
#[derive(Debug, Clone)]
pub struct Step {
    /// Name in the operator's language.
    pub text: String,
    /// Small line below; may be empty.
    pub note: String,
    /// Whether it is behind, under way or ahead.
    pub state: StepState,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    /// Behind.
    Done,
    /// Under way.
    Current,
    /// Ahead.
    Ahead,
}

impl Step {
    /// Steps of `(text, note)` with the one at `current` (from 0) under way.
    pub fn list(steps: impl IntoIterator<Item = (String, String)>, current: usize) -> Vec<Step> {
        let state = |at: usize| match at.cmp(&current) {
            std::cmp::Ordering::Less => StepState::Done,
            std::cmp::Ordering::Equal => StepState::Current,
            std::cmp::Ordering::Greater => StepState::Ahead,
        };
        let numbered = steps.into_iter().enumerate();
        numbered.map(|(at, (text, note))| Step { text, note, state: state(at) }).collect()
    }

    /// Whether it is behind.
    pub fn is_done(&self) -> bool {
        self.state == StepState::Done
    }

    /// Whether it is under way.
    pub fn is_current(&self) -> bool {
        self.state == StepState::Current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(page: u64, last: u64) -> String {
        let numbers = Pager::new(page, 10, last * 10, "?").numbers();
        let text = numbers.iter().map(|n| n.map_or("…".into(), |n| n.to_string()));
        text.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn numbers_show_the_ends_and_the_neighbours() {
        assert_eq!(shown(1, 1), "1");
        assert_eq!(shown(1, 5), "1 2 3 … 5");
        assert_eq!(shown(3, 5), "1 2 3 4 5");
        assert_eq!(shown(4, 7), "1 2 3 4 5 6 7");
        assert_eq!(shown(5, 9), "1 … 3 4 5 6 7 … 9");
        assert_eq!(shown(9, 9), "1 … 7 8 9");
        assert_eq!(shown(500_000, 1_000_000), "1 … 499998 499999 500000 500001 500002 … 1000000");
        assert_eq!(shown(1_000_000, 1_000_000), "1 … 999998 999999 1000000");
    }

    #[test]
    fn rows_and_ranges_are_clamped() {
        let pager = Pager::new(99, 20, 41, "/people?q=a&");
        assert_eq!((pager.page, pager.first_row(), pager.last_row()), (3, 41, 41));
        assert_eq!(pager.href(2), "/people?q=a&page=2");
        let empty = Pager::new(0, 0, 0, "?");
        assert_eq!((empty.page, empty.first_row(), empty.last_row()), (1, 0, 0));
    }

    #[test]
    fn sort_turns_around_on_the_same_column() {
        let sort = Sort { column: "name".into(), descending: false, base: "?".into() };
        assert_eq!(sort.href("name"), "?sort=-name");
        assert_eq!(sort.href("time"), "?sort=time");
        assert_eq!(sort.aria("name"), "ascending");
    }
}
