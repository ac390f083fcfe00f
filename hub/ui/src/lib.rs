//! The console kit of Yika: layout, components, styles, words, sessions and error pages shared by the
//! hub's console and the edge's console.
//!
//! It knows how a page looks, who is signed in and in which language to speak. It leaves to the products
//! what the pages say, where operators are stored ([`auth::OperatorDirectory`]) and how a request reaches
//! the process (listener, TLS).
//!
//! A product builds one [`Kit`] (menu, words, name), implements the directory, and calls [`mount`]:
//! see `README.md` beside this crate for the page on how to write a screen.

pub mod assets;
pub mod auth;
mod console;
pub mod error;
pub mod gallery;
pub mod lang;
pub mod page;
pub mod serve;
pub mod terminal;
pub mod view;

pub use askama;
pub use auth::{CurrentOperator, OperatorDirectory, Role};
pub use console::{BACKGROUND_HEADER, CSRF_HEADER, Console, FORM_BYTES_MAX, files, mount, require_roles};
pub use error::{Saved, UiError};
pub use lang::{Lang, Words};
pub use page::{
    AsOf, Choice, Crumb, Icon, Kit, MenuGroup, MenuItem, Notice, NoticeSource, Page, Place, PlaceSource, Theme, Toast,
    Tone, Ui,
};
pub use view::{PageLink, Pager, Sort, Step, StepState, View};
