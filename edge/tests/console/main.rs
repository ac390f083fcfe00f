//! The edge's own pages over a real box: sign-in, pages by role, seed and language, cards, doors, live, files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod browser;
mod campus;
mod chromium;
mod client;
mod pages;
mod refunds;
mod till;
