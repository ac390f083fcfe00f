//! The closed list of refusals of the interface itself, with words for the terminal's maker (POS-25).
//!
//! A refusal means: nothing was decided under the request's id. Refusals of a decision (not enough money, blocked …)
//! are answers, with the codes of `yika_crdt::reason`.

use axum::http::StatusCode;
use yika_drivers::terminal::message::{BODY_LEN_BYTES_MAX, Problem, Words};

/// Why a request is not served.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Code {
    /// A signing header is absent, repeated or not in its form.
    BadHeader,
    /// No such terminal, or its key has not reached this box.
    UnknownTerminal,
    /// The terminal is registered at another campus.
    OtherCampus,
    /// Signed with an old or future key.
    WrongKeyVersion,
    /// The signature is not of this key and request.
    BadSignature,
    /// The terminal's clock is out of the window, or the request lay about too long.
    StaleClock,
    /// The nonce was used before.
    Replayed,
    /// The terminal is suspended.
    Suspended,
    /// The terminal is scrapped.
    Scrapped,
    /// This kind of terminal has no business on this route.
    WrongKind,
    /// The body did not arrive in time.
    SlowBody,
    /// The body is too long.
    BodyTooLarge,
    /// The body is not the message of this route.
    BadBody,
    /// The query is not that of this route.
    BadQuery,
    /// The id is another terminal's, or its number is 0.
    BadId,
    /// The amount cannot be one of a sale or refund.
    BadAmount,
    /// The card text is not in its form.
    BadCard,
    /// A batch is too long or not in ascending order.
    BadBatch,
    /// The id was used before with another body.
    IdReused,
    /// The box cannot write.
    BoxNotReady,
    /// No such route.
    NotFound,
    /// The route is used with another method.
    BadMethod,
}

use Code::*;

impl Code {
    /// Every code, as the page lists them.
    pub const ALL: [Code; 22] = [
        BadHeader,
        UnknownTerminal,
        OtherCampus,
        WrongKeyVersion,
        BadSignature,
        StaleClock,
        Replayed,
        Suspended,
        Scrapped,
        WrongKind,
        SlowBody,
        BodyTooLarge,
        BadBody,
        BadQuery,
        BadId,
        BadAmount,
        BadCard,
        BadBatch,
        IdReused,
        BoxNotReady,
        NotFound,
        BadMethod,
    ];

    /// The stable word.
    pub fn word(self) -> &'static str {
        match self {
            BadHeader => "bad_header",
            UnknownTerminal => "unknown_terminal",
            OtherCampus => "other_campus",
            WrongKeyVersion => "wrong_key_version",
            BadSignature => "bad_signature",
            StaleClock => "stale_clock",
            Replayed => "replayed",
            Suspended => "suspended",
            Scrapped => "scrapped",
            WrongKind => "wrong_kind",
            SlowBody => "slow_body",
            BodyTooLarge => "body_too_large",
            BadBody => "bad_body",
            BadQuery => "bad_query",
            BadId => "bad_id",
            BadAmount => "bad_amount",
            BadCard => "bad_card",
            BadBatch => "bad_batch",
            IdReused => "id_reused",
            BoxNotReady => "box_not_ready",
            NotFound => "not_found",
            BadMethod => "bad_method",
        }
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            BadHeader | BadBody | BadQuery => StatusCode::BAD_REQUEST,
            UnknownTerminal | WrongKeyVersion | BadSignature | StaleClock => StatusCode::UNAUTHORIZED,
            OtherCampus | Suspended | Scrapped | WrongKind => StatusCode::FORBIDDEN,
            Replayed | IdReused => StatusCode::CONFLICT,
            SlowBody => StatusCode::REQUEST_TIMEOUT,
            BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BadId | BadAmount | BadCard | BadBatch => StatusCode::UNPROCESSABLE_ENTITY,
            BoxNotReady => StatusCode::SERVICE_UNAVAILABLE,
            NotFound => StatusCode::NOT_FOUND,
            BadMethod => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    /// What is wrong.
    pub fn message(self) -> (&'static str, &'static str) {
        match self {
            BadHeader => ("签名请求头缺失或格式不对", "a signing header is missing or malformed"),
            UnknownTerminal => ("本机不认识该终端", "this box does not know the terminal"),
            OtherCampus => ("该终端登记在其他园区", "the terminal is registered at another campus"),
            WrongKeyVersion => ("终端密钥版本不符", "the terminal's key version is not the present one"),
            BadSignature => ("签名不符", "the signature does not match"),
            StaleClock => ("终端时钟超出允许范围", "the request's time is outside the window"),
            Replayed => ("该请求已收到过(随机数重复)", "the nonce was used before"),
            Suspended => ("终端已停用", "the terminal is suspended"),
            Scrapped => ("终端已报废", "the terminal is scrapped"),
            WrongKind => ("此类终端不可使用该接口", "this kind of terminal may not use this route"),
            SlowBody => ("请求内容未及时送达", "the body did not arrive in time"),
            BodyTooLarge => ("请求内容过长", "the body is too long"),
            BadBody => ("请求内容格式不对", "the body is not the message of this route"),
            BadQuery => ("查询参数不对", "the query is not that of this route"),
            BadId => ("流水号不属于本终端或为 0", "the id is not this terminal's, or its number is 0"),
            BadAmount => ("金额无效", "the amount is not possible"),
            BadCard => ("卡号格式不对", "the card is not in its form"),
            BadBatch => ("批次过长或顺序不对", "the batch is too long or not in order"),
            IdReused => ("流水号已用于另一笔交易", "the id was used before with another body"),
            BoxNotReady => ("本机暂时不能服务", "the box cannot serve at the moment"),
            NotFound => ("没有这个接口", "there is no such route"),
            BadMethod => ("请求方法不对", "the route takes another method"),
        }
    }

    /// What the terminal or its maker should do.
    pub fn mend(self) -> (&'static str, &'static str) {
        match self {
            BadHeader => ("按接口说明设置六个签名头", "send the six signing headers as described"),
            UnknownTerminal => {
                ("检查终端编号;新登记的终端请等待密钥下发", "check the number; a new key may still be on its way")
            }
            OtherCampus => ("接入本园区的边缘机,或重新登记", "connect to a box of its campus, or register it here"),
            WrongKeyVersion => ("在管理端取新密钥并装入终端", "load the key that was shown at the last registration"),
            BadSignature => (
                "检查密钥,并确认签名的字节就是发送的字节",
                "check the key, and that the bytes signed are the bytes sent",
            ),
            StaleClock => {
                ("按 server_time_ms 校时后重新签名发送", "set the clock by server_time_ms, sign again, send again")
            }
            Replayed => ("换新随机数重新签名;业务流水号不变", "draw a new nonce and sign again; keep the same id"),
            Suspended => {
                ("锁定终端,记录保留,等待启用", "lock the terminal, keep its records until it is deployed again")
            }
            Scrapped => ("停止使用该终端", "stop using the terminal"),
            WrongKind => ("检查终端登记的类型", "check the kind it is registered as"),
            SlowBody => ("用同一流水号重发", "send again with the same id"),
            BodyTooLarge => ("缩短批次后重发", "send smaller batches"),
            BadBody => ("按接口文档修改,未知字段不接受", "follow the document; unknown fields are refused"),
            BadQuery => ("按接口文档修改查询参数", "follow the document"),
            BadId => ("使用本终端编号,序号从 1 起", "use this terminal's number, and count from 1"),
            BadAmount => ("以分为单位,大于 0 且不超过单笔上限", "use fen, above 0 and below the largest purchase"),
            BadCard => ("检查读卡器格式设置", "check the reader's format setting"),
            BadBatch => ("每批最多 200 笔,按启动号和序号递增", "at most 200 records, ascending by boot and sequence"),
            IdReused => ("换新流水号;原交易用冲正处理", "draw a new id; undo the earlier one by a reversal"),
            BoxNotReady => ("稍后用同一流水号重发", "send again later with the same id"),
            NotFound => ("见 /terminal/v1/", "see /terminal/v1/"),
            BadMethod => ("见 /terminal/v1/", "see /terminal/v1/"),
        }
    }
}

/// A refusal with what is particular to the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Which.
    pub code: Code,
    /// What exactly, in English, for the maker's log; never a secret or a card number.
    pub detail: Option<String>,
}

impl Refusal {
    /// A refusal that says where.
    pub fn because(code: Code, detail: impl ToString) -> Refusal {
        Refusal { code, detail: Some(detail.to_string()) }
    }

    /// As sent.
    pub fn problem(&self, server_time_ms: i64) -> Problem {
        let ((zh, en), (mend_zh, mend_en)) = (self.code.message(), self.code.mend());
        let message = match &self.detail {
            Some(detail) => Words::new(format!("{zh}:{detail}"), format!("{en}: {detail}")),
            None => Words::new(zh, en),
        };
        Problem { code: self.code.word().to_owned(), message, mend: Words::new(mend_zh, mend_en), server_time_ms }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        let detail = (code == BodyTooLarge).then(|| format!("at most {BODY_LEN_BYTES_MAX} bytes"));
        Refusal { code, detail }
    }
}

impl From<crate::node::Busy> for Refusal {
    fn from(busy: crate::node::Busy) -> Self {
        Refusal::because(BoxNotReady, busy)
    }
}

impl From<yika_crdt::store::StoreError> for Refusal {
    fn from(error: yika_crdt::store::StoreError) -> Self {
        Refusal::because(BoxNotReady, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_its_own_word_and_an_error_status() {
        let words: BTreeSet<_> = Code::ALL.iter().map(|c| c.word()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|c| c.status().is_client_error() || c.status().is_server_error()));
    }
}
