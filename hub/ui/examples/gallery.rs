//! The gallery on 127.0.0.1, with one sample operator (`admin`, password in the variable
//! `GALLERY_PASSWORD`): `cargo run -p yika-ui --example gallery -- 8099`.

use std::net::SocketAddr;
use std::sync::Mutex;

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use yika_ui::auth::{Auth, AuthEvent, AuthPolicy, DirectoryError, HashCost, Operator, hash_password};
use yika_ui::{Console, OperatorDirectory, Role, gallery, mount};

struct OneOperator(Mutex<Operator>);

impl OneOperator {
    fn get(&self, wanted: impl Fn(&Operator) -> bool) -> Result<Option<Operator>, DirectoryError> {
        let operator = self.0.lock().map_err(|e| DirectoryError(e.to_string()))?;
        Ok(Some(operator.clone()).filter(wanted))
    }
}

impl OperatorDirectory for OneOperator {
    async fn by_login(&self, login: &str) -> Result<Option<Operator>, DirectoryError> {
        self.get(|operator| operator.login == login)
    }

    async fn by_id(&self, id: &str) -> Result<Option<Operator>, DirectoryError> {
        self.get(|operator| operator.id == id)
    }

    async fn set_password(&self, _: &str, verifier: &str, _: Option<&str>) -> Result<(), DirectoryError> {
        let mut operator = self.0.lock().map_err(|e| DirectoryError(e.to_string()))?;
        operator.verifier = verifier.to_owned();
        operator.must_change = false;
        operator.credential_epoch += 1;
        Ok(())
    }

    async fn record(&self, _: AuthEvent) -> Result<(), DirectoryError> {
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).map_or(Ok(8099), |p| p.parse())?;
    let verifier = match std::env::var("GALLERY_PASSWORD") {
        Ok(password) => hash_password(&password, HashCost::default())?,
        Err(_) => String::new(),
    };
    let directory = OneOperator(Mutex::new(Operator {
        id: "op-1".into(),
        login: "admin".into(),
        name: "林晓".into(),
        role: Role::Admin,
        campus: None,
        verifier,
        must_change: true,
        active: true,
        credential_epoch: 0,
    }));
    let mut kit = gallery::sample_kit()?;
    kit.tls = false;
    let console = Console::new(kit, Auth::new(directory, AuthPolicy::default())?);
    let pages = Router::new().route("/", get(|| async { Redirect::to("/gallery") }));
    let app = mount(pages, gallery::router(), console);
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    axum::serve(listener, app).await?;
    Ok(())
}
