//! Watches: one stream each, opened again when it ends.

use std::sync::Arc;
use std::time::Duration;

use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use stores::{HintSender, Hints, ReadError, Space, hints};
use tokio_stream::StreamExt as _;
use tonic::Streaming;

use crate::member::Members;
use crate::names;

/// Pauses between tries to open a stream again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// An open stream. It ends when its end for requests is dropped.
struct Open {
    answers: Streaming<WatchResponse>,
    _requests: tokio::sync::mpsc::Sender<WatchRequest>,
}

/// Begins a watch, which goes on until nobody reads it any more.
pub(crate) async fn begin(members: Arc<Members>, space: Space) -> Result<Hints, ReadError> {
    let open = opened(&members, space).await.map_err(|reason| ReadError::Failed { reason })?;
    let (sender, hints) = hints();
    tokio::spawn(async move {
        let ended = sender.clone();
        tokio::select! {
            () = run(&members, space, open, &sender) => {}
            () = ended.unread() => {}
        }
    });
    Ok(hints)
}

async fn run(members: &Members, space: Space, mut open: Open, sender: &HintSender) {
    loop {
        let why = follow(members, space, &mut open, sender).await;
        tracing::debug!(space = space.name(), why, "a watch ended and is opened again");
        open = again(members, space).await;
        // Whatever was written meanwhile.
        sender.everywhere();
    }
}

async fn again(members: &Members, space: Space) -> Open {
    let mut pause = FIRST_PAUSE;
    loop {
        match opened(members, space).await {
            Ok(open) => return open,
            Err(why) => tracing::debug!(space = space.name(), why, "a watch cannot be opened yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Opens a stream and waits until the watch is confirmed: what is written afterwards is told.
async fn opened(members: &Members, space: Space) -> Result<Open, String> {
    let within = members.settings().call_timeout;
    let member = members.one().await?;
    let range = names::range(&members.settings().prefix, space, "");
    let create = WatchCreateRequest {
        key: range.first,
        range_end: range.end,
        progress_notify: true,
        fragment: true,
        ..WatchCreateRequest::default()
    };
    let (requests, waiting) = tokio::sync::mpsc::channel(1);
    let first = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let opening = async {
        requests.send(first).await.map_err(|error| error.to_string())?;
        let waiting = tokio_stream::wrappers::ReceiverStream::new(waiting);
        let mut client = WatchClient::new(member.channel.clone());
        let answer = client.watch(member.request(waiting)).await;
        let mut answers = answer.map_err(|status| member.said(&status))?.into_inner();
        match answers.next().await {
            Some(Ok(answer)) if answer.created && !answer.canceled => Ok(answers),
            Some(Ok(answer)) => {
                Err(format!("etcd at {} refuses the watch: {}", member.shown, answer.cancel_reason))
            }
            Some(Err(status)) => Err(member.said(&status)),
            None => Err(format!("etcd at {} ended the watch", member.shown)),
        }
    };
    let opened = tokio::time::timeout(within, opening).await;
    let late = |_| format!("etcd at {} did not confirm the watch in time", member.shown);
    match opened.map_err(late).flatten() {
        Ok(answers) => Ok(Open { answers, _requests: requests }),
        Err(error) => {
            members.leave(&member).await;
            Err(error)
        }
    }
}

/// Tells what the stream says until it ends; answers why.
async fn follow(members: &Members, space: Space, open: &mut Open, sender: &HintSender) -> String {
    loop {
        let answer = match open.answers.next().await {
            Some(Ok(answer)) => answer,
            Some(Err(status)) => return status.to_string(),
            None => return "the stream ended".to_owned(),
        };
        for key in answer.events.iter().filter_map(|event| event.kv.as_ref()) {
            match names::id(&members.settings().prefix, space, &key.key) {
                Ok(id) => sender.at(&id),
                Err(_) => sender.everywhere(),
            }
        }
        if answer.canceled {
            return format!("etcd ended it: {}", answer.cancel_reason);
        }
    }
}
