//! The pool over workers that count.

use std::sync::mpsc;

use super::*;

fn size(threads: usize, queue: usize, timeout: Duration) -> PoolSize {
    PoolSize { threads, queue, timeout }
}

fn pool(threads: usize, queue: usize, timeout: Duration) -> Pool<u32> {
    Pool::start(size(threads, queue, timeout), || 0).expect("threads")
}

/// A pool of one thread that is stuck until the sender is dropped.
async fn stuck(queue: usize, timeout: Duration) -> (Arc<Pool<u32>>, mpsc::Sender<()>) {
    let pool = Arc::new(pool(1, queue, timeout));
    let (release, held) = mpsc::channel::<()>();
    let (began, begins) = oneshot::channel();
    let holder = Arc::clone(&pool);
    tokio::spawn(async move {
        let hold = holder.run(move |_| {
            let _ = began.send(());
            let _ = held.recv();
            Ok(())
        });
        let _ = hold.await;
    });
    begins.await.expect("the thread began");
    (pool, release)
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_takes_calls_again_when_there_is_room() {
    let (pool, release) = stuck(2, Duration::from_secs(60)).await;
    let queued: Vec<_> = (0..2)
        .map(|number| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.run(move |_| Ok(number)).await })
        })
        .collect();
    while pool.waiting() < 2 {
        tokio::task::yield_now().await;
    }
    let refused = pool.run(|_| Ok(())).await;
    assert_eq!(refused, Err(KeyError::Busy { retry_after: BUSY_FOR }));
    drop(release);
    for (number, task) in queued.into_iter().enumerate() {
        assert_eq!(task.await.expect("task"), Ok(number));
    }
    assert_eq!(pool.run(|_| Ok(7)).await, Ok(7));
}

#[tokio::test]
async fn a_call_that_never_begins_is_busy_and_one_that_never_ends_is_down() {
    let (pool, release) = stuck(8, Duration::from_millis(50)).await;
    let (tell, told) = mpsc::channel();
    let waited = pool
        .run(move |_| tell.send(()).map_err(|_| KeyError::Busy { retry_after: BUSY_FOR }))
        .await;
    assert_eq!(waited, Err(KeyError::Busy { retry_after: BUSY_FOR }));
    drop(release);
    assert_eq!(pool.run(|_| Ok(1)).await, Ok(1), "the thread came back");
    assert!(told.recv().is_err(), "what nobody waited for was not done");

    let (release, held) = mpsc::channel::<()>();
    let late = pool
        .run(move |_| {
            let _ = held.recv();
            Ok(())
        })
        .await;
    assert!(matches!(late, Err(KeyError::BackendDown { .. })), "{late:?}");
    drop(release);
}

async fn counted(pool: &Pool<u32>) -> Result<u32, KeyError> {
    let count = |count: &mut u32| {
        *count += 1;
        Ok(*count)
    };
    pool.run(count).await
}

#[tokio::test]
async fn a_panic_fails_its_own_call_and_the_thread_goes_on_with_a_new_worker() {
    let pool = pool(1, 8, Duration::from_secs(60));
    assert_eq!(counted(&pool).await, Ok(1));
    assert_eq!(counted(&pool).await, Ok(2));
    let broken: Result<(), _> = pool.run(|_| panic!("this panic is part of a test")).await;
    assert!(matches!(broken, Err(KeyError::Transient { .. })), "{broken:?}");
    assert_eq!(counted(&pool).await, Ok(1));
}

#[tokio::test]
async fn dropped_calls_make_room_in_a_full_queue() {
    let (pool, release) = stuck(1, Duration::from_secs(60)).await;
    let gone = {
        let pool = Arc::clone(&pool);
        tokio::spawn(async move { pool.run(|_| Ok(())).await })
    };
    while pool.waiting() < 1 {
        tokio::task::yield_now().await;
    }
    gone.abort();
    assert!(gone.await.expect_err("aborted").is_cancelled());
    let next = Arc::clone(&pool);
    let next = tokio::spawn(async move { next.run(|_| Ok(2)).await });
    tokio::task::yield_now().await;
    drop(release);
    assert_eq!(next.await.expect("task"), Ok(2));
}

#[tokio::test]
async fn the_end_of_a_pool_waits_for_its_threads_and_their_workers() {
    struct Told(mpsc::Sender<()>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let pool = Pool::start(size(3, 8, Duration::from_secs(60)), move || Told(lock(&tell).clone()))
        .expect("threads");
    assert_eq!(pool.run(|_| Ok(1)).await, Ok(1));
    drop(pool);
    assert_eq!(told.try_iter().count(), 3);
}
