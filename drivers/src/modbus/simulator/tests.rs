//! The vectors as a conversation, the door that follows its lock, and hostile bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use super::*;
use proptest::prelude::*;
use tokio::io::duplex;

/// Sends each request (hex) and reads exactly the expected reply.
async fn converse(board: &BoardSimulator, framing: Framing, steps: &[(&str, &str)]) {
    let (mut ours, theirs) = duplex(1_024);
    let board = board.clone();
    let server = tokio::spawn(async move { board.serve_stream(theirs, framing).await });
    for (request, reply) in steps {
        ours.write_all(&hex::decode(request).unwrap()).await.unwrap();
        let mut got = vec![0; reply.len() / 2];
        ours.read_exact(&mut got).await.unwrap();
        assert_eq!(&hex::encode(got), reply, "reply to {request}");
    }
    drop(ours);
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn rtu_vectors() {
    let board = BoardSimulator::new(SimulatedBoard { doors: Vec::new(), ..SimulatedBoard::default() });
    board.set_input(1, true);
    board.set_input(3, true);
    let steps = [
        ("01050000ff008c3a", "01050000ff008c3a"),     // M1
        ("010500000000cdca", "010500000000cdca"),     // M2
        ("01050001ff00ddfa", "01050001ff00ddfa"),     // M3
        ("0101000000083dcc", "01010102d049"),         // M4
        ("01020000000879cc", "01020105618b"),         // M5
        ("010f0000000801ffbed5", "010f00000008540d"), // M6
    ];
    converse(&board, Framing::Rtu, &steps).await;
    assert!((1..=8).all(|relay| board.relay(relay)));
    board.power_cycle(false);
    converse(&board, Framing::Rtu, &[("0105020000078db0", "0105020000078db0")]).await; // M7
    assert!(board.relay(1));
    tokio::time::sleep(Duration::from_millis(760)).await;
    assert!(!board.relay(1), "700 ms are over");
    let echo = frame::encode(Framing::Rtu, &Adu { transaction: 0, unit: 0xFE, pdu: vec![0x10, 0, 3, 0, 2] });
    converse(&board, Framing::Rtu, &[("fe1000030002040004000a416b", &hex::encode(echo))]).await; // M8
    assert!(board.relay(1));
    board.set_fault(Fault { times: Some(1), ..Fault::always(Misbehaviour::Exception(2)) });
    let steps = [("0101000000083dcc", "018102c191"), ("010500ffff00bc0a", "010500ffff00bc0a")]; // M9, M10
    converse(&board, Framing::Rtu, &steps).await;
    assert!((1..=8).all(|relay| board.relay(relay)));
}

#[tokio::test]
async fn tcp_vectors() {
    let board = BoardSimulator::new(SimulatedBoard { doors: Vec::new(), ..SimulatedBoard::default() });
    converse(
        &board,
        Framing::Tcp,
        &[("000000000006010500 02ff00".replace(' ', "").as_str(), "00000000000601050002ff00")],
    )
    .await;
    let steps = [
        ("000100000006010100000008", "00010000000401010104"),         // T1
        ("00020000000601050003ff00", "00020000000601050003ff00"),     // T2
        ("000400000008010f00000008010a", "000400000006010f00000008"), // T3
        ("000600000006010101000008", "000600000003018102"),           // T4
        // T5: unit 9 is absent, this board stays silent; the next request is answered.
        ("000700000006090100000008000800000006010100000008", "0008000000040101010a"),
    ];
    converse(&board, Framing::Tcp, &steps).await;
}

#[tokio::test]
async fn a_door_follows_its_lock_and_somebody_passes_once() {
    let board = BoardSimulator::new(SimulatedBoard::default());
    let mut changes = board.subscribe();
    converse(&board, Framing::Rtu, &[("0105020000078db0", "0105020000078db0")]).await;
    let (ours, theirs) = duplex(64);
    let server = board.clone();
    let task = tokio::spawn(async move { server.serve_stream(theirs, Framing::Rtu).await });
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    drop(ours);
    task.await.unwrap().unwrap();
    let mut seen = Vec::new();
    while let Ok(change) = changes.try_recv() {
        seen.push(change);
    }
    assert_eq!(
        seen,
        [
            BoardChange::Relay { relay: 1, on: true },
            BoardChange::Input { input: 1, on: false },
            BoardChange::Input { input: 1, on: true },
            BoardChange::Relay { relay: 1, on: false },
        ]
    );
}

proptest! {
    #[test]
    fn any_request_is_answered_and_never_panics(pdu in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut board = board::Board::new(SimulatedBoard::default());
        let (reply, _) = board.serve(&pdu, Instant::now());
        prop_assert!(!reply.is_empty());
        prop_assert!(reply[0] & 0x7F == pdu.first().copied().unwrap_or(0) & 0x7F);
    }
}
