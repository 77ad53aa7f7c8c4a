//! `banyan subscriber ...`: who relies on the bundle without a leaf of this CA.

use console::exit::{Failure, from_status};
use console::output;
use proto::banyan::admin::v1::{
    AddSubscriberRequest, ConfirmSubscriberRequest, ListSubscribersRequest, RemoveSubscriberRequest,
    Subscriber,
};
use serde_json::{Value, json};

use crate::admin_client;
use crate::args::{SubscriberAction, SubscriberOptions};

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses.
pub async fn run(options: &SubscriberOptions) -> Result<(), Failure> {
    let mut client = admin_client::rotations(&options.target).await?;
    let failed = |status: tonic::Status| from_status(&status);
    let subscriber = match &options.action {
        SubscriberAction::List => {
            let (mut subscribers, mut asked) = (Vec::new(), ListSubscribersRequest::default());
            loop {
                let page = client.list_subscribers(asked).await.map_err(failed)?.into_inner();
                subscribers.extend(page.subscribers);
                if page.next.is_empty() {
                    return list(&subscribers, options.json);
                }
                asked = ListSubscribersRequest { after: page.next, limit: 0 };
            }
        }
        SubscriberAction::Add { name, staleness, covers, word } => {
            let seconds = staleness.map_or(0, |bound| i64::try_from(bound.as_secs()).unwrap_or(i64::MAX));
            let (name, covers) = (name.clone(), covers.clone());
            let (by, reason) = (word.by(), word.reason());
            let request = AddSubscriberRequest { name, staleness_seconds: seconds, covers, by, reason };
            client.add_subscriber(request).await.map_err(failed)?.into_inner()
        }
        SubscriberAction::Confirm { name, sequence, word } => {
            let (name, by, reason) = (name.clone(), word.by(), word.reason());
            let request = ConfirmSubscriberRequest { name, sequence: *sequence, by, reason };
            client.confirm_subscriber(request).await.map_err(failed)?.into_inner()
        }
        SubscriberAction::Remove { name, word } => {
            let request =
                RemoveSubscriberRequest { name: name.clone(), by: word.by(), reason: word.reason() };
            client.remove_subscriber(request).await.map_err(failed)?;
            return match options.json {
                true => output::json(&json!({ "removed": name })),
                false => output::line(&format!("removed {name}: no gate waits for it any more")),
            };
        }
    };
    if options.json { output::json(&as_json(&subscriber)) } else { list(&[subscriber], false) }
}

fn list(subscribers: &[Subscriber], json: bool) -> Result<(), Failure> {
    if json {
        return output::json(&json!({ "subscribers": subscribers.iter().map(as_json).collect::<Vec<_>>() }));
    }
    let mut table = output::table(&["SUBSCRIBER", "STALENESS", "CONFIRMED", "BY", "AT", "ADDED", "COVERS"]);
    for subscriber in subscribers {
        table.add_row([
            subscriber.name.clone(),
            match subscriber.staleness_seconds {
                0 => "until confirmed".to_owned(),
                seconds => format!("{seconds} s"),
            },
            if subscriber.confirmed == 0 {
                "-".to_owned()
            } else {
                format!("bundle {}", subscriber.confirmed)
            },
            subscriber.confirmed_by.clone(),
            output::time(subscriber.confirmed_at),
            output::time(subscriber.added_at),
            subscriber.covers.join("\n"),
        ]);
    }
    output::line(&table.to_string())
}

fn as_json(subscriber: &Subscriber) -> Value {
    json!({
        "name": subscriber.name,
        "staleness_seconds": output::json_count(subscriber.staleness_seconds),
        "confirmed": output::json_count(subscriber.confirmed),
        "confirmed_by": subscriber.confirmed_by,
        "confirmed_at": output::time(subscriber.confirmed_at),
        "added_at": output::time(subscriber.added_at),
        "covers": subscriber.covers,
    })
}
