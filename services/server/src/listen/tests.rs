//! Over real sockets.

use super::*;
use crate::telemetry;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::timeout;

/// What is to come may take so long on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// What is not to come is waited for so long.
const A_WHILE: Duration = Duration::from_millis(300);

struct Listening {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

async fn listen(most: u32, name: &'static str, routes: Router) -> Listening {
    let listener = bind("127.0.0.1:0".parse().unwrap(), "test").unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let task = tokio::spawn(serve_at_most(most, name, listener, routes, stopping));
    Listening { address, stop, task }
}

async fn ask(connection: &mut TcpStream) {
    connection.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
}

async fn expect_answer(connection: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"here") {
        let read = timeout(SOON, connection.read_buf(&mut answer)).await.unwrap().unwrap();
        assert_ne!(read, 0, "closed after: {}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn further_connections_wait_until_one_closes() {
    let recorder = telemetry::recorder().unwrap();
    let listening = listen(2, "narrow", Router::new().route("/", get(|| async { "here" }))).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut connection = TcpStream::connect(listening.address).await.unwrap();
        ask(&mut connection).await;
        expect_answer(&mut connection).await;
        open.push(connection);
    }
    let mut further = TcpStream::connect(listening.address).await.unwrap();
    ask(&mut further).await;
    let heard = timeout(A_WHILE, further.read(&mut [0u8])).await;
    assert!(heard.is_err(), "a third connection is served: {heard:?}");
    for connection in &mut open {
        ask(connection).await;
        expect_answer(connection).await;
    }
    let shown = recorder.render();
    for line in [r#"thyme_connections{listener="narrow"} 2"#, r#"thyme_connections_full_total{listener="narrow"} 1"#] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in:\n{shown}");
    }

    drop(open.pop());
    expect_answer(&mut further).await;
    let mut fourth = TcpStream::connect(listening.address).await.unwrap();
    ask(&mut fourth).await;
    assert!(timeout(A_WHILE, fourth.read(&mut [0u8])).await.is_err(), "a place is given to one connection only");
    drop(further);
    expect_answer(&mut fourth).await;
}

/// Else a machine that is switched off has its place until the server ends.
#[tokio::test]
async fn connections_are_kept_alive() {
    let listener = bind("127.0.0.1:0".parse().unwrap(), "test").unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = TcpListener::accept(&listener).await.unwrap();
    assert!(TcpSocket::from_std_stream(stream.into_std().unwrap()).keepalive().unwrap());
}

#[tokio::test]
async fn a_listener_that_stops_answers_what_is_under_way_and_closes_the_rest() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (asked, may_answer) = (begun.clone(), go_on.clone());
    let slow = move || async move {
        asked.notify_one();
        may_answer.notified().await;
        "here"
    };
    let listening = listen(8, "stopping", Router::new().route("/", get(slow))).await;
    let mut idle = TcpStream::connect(listening.address).await.unwrap();
    let mut asking = TcpStream::connect(listening.address).await.unwrap();
    ask(&mut asking).await;
    timeout(SOON, begun.notified()).await.unwrap();

    listening.stop.send_replace(true);
    assert_eq!(timeout(SOON, idle.read(&mut [0u8])).await.unwrap().unwrap(), 0, "who asks nothing is let go");
    assert!(!listening.task.is_finished(), "a request is under way");
    go_on.notify_one();
    expect_answer(&mut asking).await;
    timeout(SOON, listening.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(listening.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_listener_that_is_aborted_cuts_its_connections() {
    let begun = Arc::new(Notify::new());
    let asked = begun.clone();
    let stuck = move || async move {
        asked.notify_one();
        std::future::pending::<&'static str>().await
    };
    let listening = listen(8, "cut", Router::new().route("/", get(stuck))).await;
    let mut asking = TcpStream::connect(listening.address).await.unwrap();
    ask(&mut asking).await;
    timeout(SOON, begun.notified()).await.unwrap();

    listening.stop.send_replace(true);
    assert!(timeout(A_WHILE, asking.read(&mut [0u8])).await.is_err(), "a request is under way");
    listening.task.abort();
    let heard = timeout(SOON, asking.read(&mut [0u8])).await.expect("it is cut");
    assert!(matches!(heard, Ok(0) | Err(_)), "{heard:?}");
}

/// In the words of RFC 9113: a client's preface and empty settings; what comes first from the server are its settings.
#[tokio::test]
async fn a_connection_has_two_hundred_streams() {
    let listening = listen(1, "streams", Router::new()).await;
    let mut connection = TcpStream::connect(listening.address).await.unwrap();
    connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0u8; 9];
    timeout(SOON, connection.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!((head[0], head[1], head[3]), (0, 0, 4), "a short frame of settings");
    let mut settings = vec![0u8; usize::from(head[2])];
    timeout(SOON, connection.read_exact(&mut settings)).await.unwrap().unwrap();
    let most_streams = settings.chunks(6).find(|setting| setting[..2] == [0, 3]);
    assert_eq!(most_streams.map(|setting| &setting[2..]), Some(&[0, 0, 0, 200][..]));
}
