//! The bytes that really go out, against the vectors, over an in-memory stream; and lying answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use super::*;
use proptest::prelude::*;
use tokio::io::duplex;

const LIMIT: Duration = Duration::from_millis(200);

/// Runs `ask` against a peer that expects `request` and answers `reply`, both in hex.
async fn exchange<T, F>(framing: Framing, request: &str, reply: &str, ask: F) -> Result<T, CallError>
where
    F: AsyncFnOnce(&mut Line) -> Result<T, CallError>,
{
    let (ours, mut theirs) = duplex(1_024);
    let (request, reply) = (hex::decode(request).unwrap(), hex::decode(reply).unwrap());
    let peer = tokio::spawn(async move {
        let mut got = vec![0u8; request.len()];
        theirs.read_exact(&mut got).await.unwrap();
        assert_eq!(hex::encode(&got), hex::encode(&request), "bytes on the wire");
        theirs.write_all(&reply).await.unwrap();
        theirs
    });
    let mut line = Line::over(ours, framing, Duration::ZERO).await.unwrap();
    let result = ask(&mut line).await;
    peer.await.unwrap();
    result
}

#[tokio::test]
async fn rtu_bytes_of_m1_to_m5_and_m9() {
    let rtu = Framing::Rtu;
    let on = "01050000ff008c3a";
    exchange(rtu, on, on, async |line| line.write_coil(1, 0, true, LIMIT).await).await.unwrap();
    let off = "010500000000cdca";
    exchange(rtu, off, off, async |line| line.write_coil(1, 0, false, LIMIT).await).await.unwrap();
    let two = "01050001ff00ddfa";
    exchange(rtu, two, two, async |line| line.write_coil(1, 1, true, LIMIT).await).await.unwrap();
    let coils = exchange(rtu, "0101000000083dcc", "01010102d049", async |line| line.read_coils(1, 0, 8, LIMIT).await);
    assert_eq!(coils.await.unwrap(), [false, true, false, false, false, false, false, false]);
    let inputs = exchange(rtu, "01020000000879cc", "01020105618b", async |line| line.read_inputs(1, 0, 8, LIMIT).await);
    assert_eq!(inputs.await.unwrap(), [true, false, true, false, false, false, false, false]);
    let refused = exchange(rtu, "0101000000083dcc", "018102c191", async |line| line.read_coils(1, 0, 8, LIMIT).await);
    assert_eq!(refused.await, Err(CallError::Exception(2)));
}

#[tokio::test]
async fn rtu_bytes_of_the_pulses_m7_and_m8() {
    let flash = "0105020000078db0";
    exchange(Framing::Rtu, flash, flash, async |line| line.write_coil_value(1, 0x0200, 7, LIMIT).await).await.unwrap();
    let echo = frame::encode(Framing::Rtu, &Adu { transaction: 0, unit: 0xFE, pdu: vec![0x10, 0, 3, 0, 2] });
    exchange(Framing::Rtu, "fe1000030002040004000a416b", &hex::encode(echo), async |line| {
        line.write_registers(0xFE, 3, &[4, 10], LIMIT).await
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn tcp_bytes_with_the_first_transaction_number() {
    // T1, T2, T4, T5 with transaction 0, the client's first.
    let coils = exchange(Framing::Tcp, "000000000006010100000008", "00000000000401010104", async |line| {
        line.read_coils(1, 0, 8, LIMIT).await
    });
    assert_eq!(coils.await.unwrap()[2..4], [true, false]);
    let on = "00000000000601050003ff00";
    exchange(Framing::Tcp, on, on, async |line| line.write_coil(1, 3, true, LIMIT).await).await.unwrap();
    let refused = exchange(Framing::Tcp, "000000000006010101000008", "000000000003018102", async |line| {
        line.read_coils(1, 256, 8, LIMIT).await
    });
    assert_eq!(refused.await, Err(CallError::Exception(2)));
    let gateway = exchange(Framing::Tcp, "000000000006090100000008", "00000000000309810b", async |line| {
        line.read_coils(9, 0, 8, LIMIT).await
    });
    assert_eq!(gateway.await, Err(CallError::Exception(11)));
    let flash = "800100000006010502000007";
    exchange(Framing::Tcp, flash, flash, async |line| line.write_coil_value(1, 0x200, 7, LIMIT).await).await.unwrap();
}

#[tokio::test]
async fn lying_answers_are_named_and_nothing_panics() {
    let ask = "000000000006010500000000";
    for lie in [
        "000000000006010500010000", // another coil
        "00000000000601050000ff00", // the opposite state
        "000000000006010500000007", // neither state
        "000100000006010500000000", // another transaction
        "000000000006020500000000", // another unit
        "00000000000401010104",     // another function
        "000000010006010500000000", // not Modbus
        "000000000000",             // no length: incomplete
        "00000000000001",           // length 0
    ] {
        let ask = exchange(Framing::Tcp, ask, lie, async |line| line.write_coil(1, 0, false, LIMIT).await);
        let error = ask.await.unwrap_err();
        assert!(error.spoils_line(), "{lie}: {error}");
        assert!(matches!(error, CallError::WrongAnswer(_) | CallError::Timeout { .. }), "{lie}: {error}");
    }
    for lie in ["0000000000050101020104", "000000000003010100"] {
        let ask =
            exchange(Framing::Tcp, "000000000006010100000008", lie, async |line| line.read_coils(1, 0, 8, LIMIT).await);
        assert!(matches!(ask.await, Err(CallError::WrongAnswer(_))), "{lie}");
    }
    for lie in ["0105020000084db5", "0205020000078d83", "010502000007ffff", "0105020000078db000", "818302"] {
        let ask = exchange(Framing::Rtu, "0105020000078db0", lie, async |line| {
            line.write_coil_value(1, 0x200, 7, LIMIT).await
        });
        let error = ask.await.unwrap_err();
        assert!(matches!(error, CallError::WrongAnswer(_) | CallError::Timeout { .. }), "{lie}: {error}");
    }
}

#[tokio::test]
async fn silence_is_a_time_out_and_a_closed_stream_is_broken() {
    let (ours, _theirs) = duplex(64);
    let mut line = Line::over(ours, Framing::Rtu, Duration::ZERO).await.unwrap();
    assert_eq!(line.read_coils(1, 0, 8, LIMIT).await, Err(CallError::Timeout { ms: 200 }));
    let (ours, theirs) = duplex(64);
    let mut line = Line::over(ours, Framing::Tcp, Duration::ZERO).await.unwrap();
    drop(theirs);
    assert!(matches!(line.write_coil_value(1, 0, 7, LIMIT).await, Err(CallError::Broken(_))));
}

#[tokio::test]
async fn a_late_answer_of_an_earlier_connection_is_thrown_away() {
    let (ours, mut theirs) = duplex(1_024);
    theirs.write_all(&hex::decode("01010102d049").unwrap()).await.unwrap();
    let mut line = Line::over(ours, Framing::Rtu, Duration::ZERO).await.unwrap();
    assert_eq!(line.read_coils(1, 0, 8, LIMIT).await, Err(CallError::Timeout { ms: 200 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    /// Whatever a board answers, every request ends in a result.
    #[test]
    fn arbitrary_answers_never_panic(
        rtu: bool,
        envelope: bool,
        which in 0..5_u8,
        mut noise in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let framing = if rtu { Framing::Rtu } else { Framing::Tcp };
        if envelope && !noise.is_empty() {
            // Past the checksum or the header, to the parser of the answer.
            noise[0] = [1, 2, 5, 0x10, 5][usize::from(which)] | noise[0] & 0x80;
            let transaction = if which == 4 { 0x8001 } else { 0 };
            noise = frame::encode(framing, &Adu { transaction, unit: 1, pdu: noise });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (ours, mut theirs) = duplex(1_024);
            let mut line = Line::over(ours, framing, Duration::ZERO).await.unwrap();
            let limit = Duration::from_millis(3);
            let answer = async {
                let mut request = [0u8; 64];
                let _ = theirs.read(&mut request).await.unwrap();
                theirs.write_all(&noise).await.unwrap();
                // Held open: the end of the stream is another test.
                std::future::pending::<()>().await;
            };
            let ask = async {
                match which {
                    0 => line.read_coils(1, 0, 8, limit).await.map(|bits| assert_eq!(bits.len(), 8)),
                    1 => line.read_inputs(1, 0, 12, limit).await.map(|bits| assert_eq!(bits.len(), 12)),
                    2 => line.write_coil(1, 0, true, limit).await,
                    3 => line.write_registers(1, 3, &[4, 7], limit).await,
                    _ => line.write_coil_value(1, 0x200, 7, limit).await,
                }
            };
            tokio::select! { _ = ask => {}, () = answer => {} }
        });
    }
}
