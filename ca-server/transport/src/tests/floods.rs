//! Frames that ask for nothing, and headers that are large.

use super::*;

fn pings(count: usize) -> Vec<u8> {
    [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].repeat(count)
}

async fn all_read(conduct: &Arc<Conduct>, bytes: Vec<u8>) -> std::io::Result<usize> {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let mut watched = Watched::http2(server, Arc::clone(conduct));
    let sent = tokio::spawn(async move { client.write_all(&bytes).await });
    let mut read = Vec::new();
    let outcome = watched.read_to_end(&mut read).await;
    drop(watched);
    // The writer fails when the reader has gone.
    let _ = sent.await;
    outcome
}

#[tokio::test]
async fn a_flood_of_frames_that_ask_for_nothing_ends_the_connection() {
    let (crowd, _) = crowd(rules());
    let preface = vec![0; 24];
    let place = arrived(&crowd, 1);
    let few = [preface.clone(), pings(1_000)].concat();
    assert_eq!(all_read(place.conduct(), few.clone()).await.unwrap(), few.len());
    assert_eq!(is_cut(&place), None);
    all_read(place.conduct(), [preface.clone(), pings(1_100)].concat()).await.unwrap_err();
    assert_eq!(is_cut(&place), Some(Cut::Flood));

    // A request pays for the frames that its answer costs.
    let place = arrived(&crowd, 1);
    let request = [vec![0, 0, 1, 1, 5, 0, 0, 0, 1, 0x82], pings(10)].concat();
    let good = [preface, request.repeat(1_000)].concat();
    assert_eq!(all_read(place.conduct(), good.clone()).await.unwrap(), good.len());
}

#[tokio::test(start_paused = true)]
async fn headers_come_from_an_untrusted_client_at_a_bounded_rate_and_from_a_member_at_any() {
    let (crowd, _) = crowd(rules());
    tokio::spawn(Arc::clone(&crowd).watch());
    let (untrusted, member) = (arrived(&crowd, 1), arrived(&crowd, 2));
    member.conduct().believed();
    let (mut client, server) = tokio::io::duplex(1024);
    let mut watched = Watched::http2(server, Arc::clone(untrusted.conduct()));
    for _ in 0..80 {
        drop((untrusted.conduct().begin(14 * 1024), member.conduct().begin(14 * 1024)));
    }
    client.write_all(&[0; 10]).await.unwrap();
    let mut place = [0; 10];
    let mut reading = Box::pin(watched.read_exact(&mut place));
    let now = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx).is_ready())).await;
    assert!(!now, "it has sent 1.1 MiB of headers at once");
    tokio::time::timeout(Duration::from_secs(2), reading).await.unwrap().unwrap();
    assert_eq!(member.conduct().must_rest(), None);
}
