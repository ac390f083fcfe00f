//! The hub's certificate authority: its root, certificates of nodes from their requests, the pin.
//!
//! Leaves to others: where the root is kept (the caller stores the PEM texts), who may be certified (`join`'s
//! enroller) and which certificates still count (the registry).

use crate::identity::{Facts, NodeIdentity, Pin};
use ed25519_dalek::SigningKey;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType,
    SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// Longest certificate request that is looked at.
pub const CSR_BYTES_MAX: usize = 2 << 10;
/// How long a root is valid: mesh TLS checks no dates, other software that looks at it may.
pub const ROOT_VALID_DAYS: i64 = 50 * 366;
const NAME_CHARS_MAX: usize = 64;
const DAY_S: i64 = 86_400;

/// What the authority could not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    /// The stored root key is not a usable Ed25519 key.
    #[error("the authority's key cannot be read: {0}; restore ca key and certificate from the backup")]
    RootKey(String),
    /// The stored root certificate is unreadable or belongs to another key.
    #[error("the authority's certificate cannot be used: {0}; restore ca key and certificate from the backup")]
    RootCertificate(String),
    /// The certificate request is malformed or its signature does not prove the key.
    #[error("certificate request refused: {0}")]
    Request(String),
    /// Hub and node number, campus and role contradict each other, or the dates do.
    #[error("cannot certify {0}")]
    Identity(String),
    /// The signing library failed.
    #[error("signing failed: {0}")]
    Signing(String),
}

/// First and last second of a certificate, Unix time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// First second.
    pub not_before_s: i64,
    /// Last second.
    pub not_after_s: i64,
}

impl Validity {
    /// From `now_s` (less a day for slow clocks) for so many days. A clock without a battery begins where the calendar does.
    pub fn days(now_s: i64, days: u32) -> Self {
        let not_before_s = now_s.saturating_sub(DAY_S).max(0);
        Self { not_before_s, not_after_s: now_s.saturating_add(i64::from(days) * DAY_S) }
    }
}

/// The root as text, for the caller to store: the key sealed, the certificate open.
pub struct AuthorityPems {
    /// PKCS#8 private key; wiped when dropped.
    pub key_pem: Zeroizing<String>,
    /// Self-signed certificate.
    pub certificate_pem: String,
}

/// The root key and certificate in use.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_der: Vec<u8>,
}

impl Authority {
    /// Makes a new root from 32 random bytes; `name` is shown in certificate viewers.
    pub fn create(name: &str, seed: &[u8; 32], now_s: i64) -> Result<AuthorityPems, CaError> {
        let key = key_pair(seed).map_err(|e| CaError::RootKey(e.to_string()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial(&[b"root", key.der_bytes()]));
        let valid = Validity {
            not_before_s: now_s.saturating_sub(DAY_S).max(0),
            not_after_s: now_s.saturating_add(ROOT_VALID_DAYS * DAY_S),
        };
        set_dates(&mut params, valid)?;
        let certificate = params.self_signed(&key).map_err(|e| CaError::Signing(e.to_string()))?;
        Ok(AuthorityPems { key_pem: Zeroizing::new(key.serialize_pem()), certificate_pem: certificate.pem() })
    }

    /// Takes a stored root into use; refuses a certificate that is not of that key.
    pub fn load(key_pem: &str, certificate_pem: &str) -> Result<Self, CaError> {
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| CaError::RootKey(e.to_string()))?;
        let key =
            KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519).map_err(|e| CaError::RootKey(e.to_string()))?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|e| CaError::RootCertificate(e.to_string()))?;
        let certificate_der = certificate.to_vec();
        if root_key(&certificate_der).as_deref() != Some(key.der_bytes()) {
            return Err(CaError::RootCertificate("it is of another key".to_owned()));
        }
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|e| CaError::RootCertificate(e.to_string()))?;
        Ok(Self { issuer, certificate_der })
    }

    /// The root certificate, DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate_der
    }

    /// What a joining box compares before it sends its secret.
    pub fn pin(&self) -> Pin {
        Pin::of(&self.certificate_der)
    }

    /// Certifies the key of a request whose signature proves that its sender holds the key.
    ///
    /// `public_key` must equal the request's. Names and extensions in the request are ignored. The same
    /// arguments give the same bytes, so that a repeated enrolment gets its first certificate.
    pub fn issue_from_csr(
        &self,
        csr_der: &[u8],
        public_key: &[u8; 32],
        identity: NodeIdentity,
        valid: Validity,
    ) -> Result<Vec<u8>, CaError> {
        if csr_public_key(csr_der)? != *public_key {
            return Err(CaError::Request("the request is of another key than the one announced".to_owned()));
        }
        self.issue(public_key, identity, valid)
    }

    /// Certifies a key that the caller holds itself: the hub's own certificate.
    pub fn issue_own(&self, key: &SigningKey, identity: NodeIdentity, valid: Validity) -> Result<Vec<u8>, CaError> {
        self.issue(key.verifying_key().as_bytes(), identity, valid)
    }

    fn issue(&self, public_key: &[u8; 32], identity: NodeIdentity, valid: Validity) -> Result<Vec<u8>, CaError> {
        if !identity.is_consistent() {
            return Err(CaError::Identity(format!("{identity}: hub, node 0 and no campus go together")));
        }
        let uri = identity.to_string();
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished(&format!("yika {} {}", identity.role, identity.writer()));
        params.subject_alt_names =
            vec![SanType::URI(uri.as_str().try_into().map_err(|_| CaError::Identity(uri.clone()))?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Siblings dial each other, so every node is server and client.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial(&[
            uri.as_bytes(),
            public_key,
            &valid.not_before_s.to_be_bytes(),
            &valid.not_after_s.to_be_bytes(),
        ]));
        set_dates(&mut params, valid)?;
        let certificate =
            params.signed_by(&PublicKey(*public_key), &self.issuer).map_err(|e| CaError::Signing(e.to_string()))?;
        Ok(certificate.der().to_vec())
    }

    /// Certifies the same key and identity again with later dates (renewal keeps the key).
    ///
    /// `certificate_der` is the peer's present certificate and need not be within its dates.
    pub fn renew(
        &self,
        identity: NodeIdentity,
        public_key: &[u8; 32],
        csr_der: &[u8],
        valid: Validity,
    ) -> Result<Vec<u8>, CaError> {
        self.issue_from_csr(csr_der, public_key, identity, valid)
    }
}

/// The pin of a root certificate in PEM, `None` when it is not one.
pub fn pin_of_ca(certificate_pem: &str) -> Option<Pin> {
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).ok()?;
    Some(Pin::of(&der))
}

/// A certificate request (DER) for `key`: the proof that the sender holds it.
pub fn csr(key: &SigningKey, name: &str) -> Result<Vec<u8>, CaError> {
    let seed = Zeroizing::new(key.to_bytes());
    let pair = key_pair(&seed).map_err(|e| CaError::Request(e.to_string()))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished(name);
    let request = params.serialize_request(&pair).map_err(|e| CaError::Request(e.to_string()))?;
    Ok(request.der().to_vec())
}

/// The Ed25519 key that a request proves, after its signature is checked.
pub(crate) fn csr_public_key(csr_der: &[u8]) -> Result<[u8; 32], CaError> {
    if csr_der.len() > CSR_BYTES_MAX {
        return Err(CaError::Request(format!("{} bytes exceed the limit of {CSR_BYTES_MAX}", csr_der.len())));
    }
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der))
        .map_err(|e| CaError::Request(e.to_string()))?;
    if request.public_key.algorithm() != &PKCS_ED25519 {
        return Err(CaError::Request("the key is not Ed25519".to_owned()));
    }
    <[u8; 32]>::try_from(request.public_key.der_bytes())
        .map_err(|_| CaError::Request("the key is not 32 bytes".to_owned()))
}

/// PKCS#8 version 1 of an Ed25519 seed (RFC 8410); wiped when dropped.
pub(crate) fn pkcs8(seed: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    const PREFIX: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let mut der = Zeroizing::new(Vec::with_capacity(PREFIX.len() + seed.len()));
    der.extend_from_slice(&PREFIX);
    der.extend_from_slice(seed);
    der
}

fn key_pair(seed: &[u8; 32]) -> Result<KeyPair, rcgen::Error> {
    let der = pkcs8(seed);
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der.as_slice()), &PKCS_ED25519)
}

fn root_key(certificate_der: &[u8]) -> Option<Vec<u8>> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, certificate) = X509Certificate::from_der(certificate_der).ok()?;
    Some(certificate.public_key().subject_public_key.data.to_vec())
}

fn distinguished(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    let clean: String = name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    names.push(DnType::CommonName, clean);
    names
}

fn serial(parts: &[&[u8]]) -> SerialNumber {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut bytes = hash.finalize();
    bytes[0] = bytes[0] & 0x7f | 0x40; // positive and of full length, as RFC 5280 asks
    SerialNumber::from_slice(&bytes[..16])
}

fn set_dates(params: &mut CertificateParams, valid: Validity) -> Result<(), CaError> {
    let date = |s| {
        OffsetDateTime::from_unix_timestamp(s)
            .ok()
            .filter(|date| (1970..=9999).contains(&date.year()))
            .ok_or_else(|| CaError::Identity(format!("dates {valid:?}: outside the calendar")))
    };
    if valid.not_before_s >= valid.not_after_s {
        return Err(CaError::Identity(format!("dates {valid:?}: they end before they begin")));
    }
    params.not_before = date(valid.not_before_s)?;
    params.not_after = date(valid.not_after_s)?;
    Ok(())
}

struct PublicKey([u8; 32]);

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ED25519
    }
}

/// The identity and dates a certificate states; for `status` and `doctor`. The chain is not checked.
pub fn describe_certificate(certificate_der: &[u8]) -> Result<(NodeIdentity, Validity), crate::IdentityError> {
    let facts = Facts::read(certificate_der)?;
    Ok((facts.identity, Validity { not_before_s: facts.not_before_s, not_after_s: facts.not_after_s }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use yika_crdt::ids::Incarnation;

    /// A machine without a battery starts in 1970: headquarters certifies itself and goes on.
    #[test]
    fn a_clock_that_begins_where_the_calendar_does_certifies_all_the_same() {
        for now_s in [0, 8, DAY_S, 40 * DAY_S] {
            let pems = Authority::create("test", &[1; 32], now_s).unwrap();
            let authority = Authority::load(&pems.key_pem, &pems.certificate_pem).unwrap();
            let identity = NodeIdentity::hub(Incarnation { generation: 1, counter: 1 });
            let valid = Validity::days(now_s, 30);
            let own = authority.issue_own(&SigningKey::from_bytes(&[2; 32]), identity, valid).unwrap();
            assert_eq!(describe_certificate(&own).unwrap(), (identity, valid));
        }
    }
}
