//! One channel: a task that has every object hold the bundle, and gives the CA its word.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};

use super::content::Shape;
use super::gateways;
use super::judge::Ours;
use super::objects::{News, Objects};
use super::seen::{Key, Seen};
use super::state::{Act, Known, Plan};
use super::word::Word;
use crate::api::ApiError;
use crate::board::Part;
use crate::config::ChannelConfig;
use crate::world::World;

/// Writes at a time.
const WRITES_MAX: usize = 16;
/// How often is looked whether it is time for something, while there is something to wait for. Nobody is asked by that.
const TICK: Duration = Duration::from_millis(200);
/// The same while nothing is to be waited for.
const QUIET: Duration = Duration::from_secs(3_600);
/// Pause before what failed as a whole is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Pause before readers are looked at again that keep it from being confirmed.
const READERS_AGAIN: Duration = Duration::from_secs(10);
/// How often it says how far it is.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// A channel, and what it works with.
pub(crate) struct Channel {
    world: World,
    shape: Arc<Shape>,
    part: Part,
    word: Word,
}

/// Why a session ends.
enum Ended {
    /// Another process works.
    Yields,
    /// This is in the way.
    Stuck(String),
}

/// What came of one write.
struct Done {
    key: Key,
    act: Act,
    outcome: Result<Option<Seen>, ApiError>,
}

/// One turn at work: from when this process works until it does not, or something fails as a whole.
struct Session<'a> {
    channel: &'a Channel,
    objects: Arc<Objects>,
    known: Known,
    writes: FuturesUnordered<BoxFuture<'static, Done>>,
    under_way: BTreeSet<Key>,
    /// What is wrong with the bundle itself.
    unfit: Option<String>,
    /// Why the CA is not there.
    away: Option<String>,
    /// A watch was lost, so that everything is to be read again; and what that came to.
    lost: Option<String>,
    /// Why it could not be read again.
    unread: Option<String>,
    /// Before this uptime nothing is read as a whole, and the CA is not asked.
    not_before: Duration,
    /// Since when every object is known to be right, from a look at all of them.
    right_since: Option<Duration>,
    /// What the CA was told before; `None` until it was asked.
    confirmed: Option<u64>,
    /// Why the CA did not take the word.
    untaken: Option<String>,
    /// How many roots the bundle has, and who may take one of them only.
    roots: usize,
    unproven: Option<String>,
    told_at: Duration,
}

impl Channel {
    pub(crate) fn new(world: World, config: ChannelConfig) -> Self {
        let part = world.board.part(format!("publish/{}", config.name));
        let word = Word::new(world.ca.clone(), &config);
        Self { world, shape: Arc::new(Shape::new(config)), part, word }
    }

    /// Works until it is stopped.
    pub(crate) async fn run(self) {
        let stop = self.world.stop.clone();
        stop.run_until_cancelled(self.work()).await;
    }

    async fn work(&self) {
        let mut leading = self.world.leading.clone();
        loop {
            if !leading.works() {
                self.part.ready(leading.waiting());
                leading.changed().await;
                continue;
            }
            let ended =
                match Objects::find(self.world.client.clone(), Arc::clone(&self.shape)).await {
                    Ok(objects) => Session::new(self, objects).run().await,
                    Err(error) => Ended::Stuck(error.to_string()),
                };
            if let Ended::Stuck(text) = ended {
                self.part.stuck(text);
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    fn name(&self) -> &str {
        &self.shape.config().name
    }
}

impl<'a> Session<'a> {
    fn new(channel: &'a Channel, objects: Objects) -> Self {
        let known = Known::new(Arc::clone(&channel.shape), objects.fixed(), objects.scopes());
        Self {
            channel,
            objects: Arc::new(objects),
            known,
            writes: FuturesUnordered::new(),
            under_way: BTreeSet::new(),
            unfit: None,
            away: None,
            lost: None,
            unread: None,
            not_before: Duration::ZERO,
            right_since: None,
            confirmed: None,
            untaken: None,
            roots: 0,
            unproven: None,
            told_at: Duration::ZERO,
        }
    }

    fn now(&self) -> Duration {
        self.channel.world.clock.uptime()
    }

    async fn run(mut self) -> Ended {
        let mut news = self.objects.watch();
        let mut ca = self.channel.world.ca.known();
        let mut leading = self.channel.world.leading.clone();
        let mut parties = self.channel.world.ca.channels();
        parties.mark_unchanged();
        self.plan(&ca.borrow_and_update().clone());
        loop {
            self.begin_writes();
            if let Err(ended) = self.settle().await {
                return ended;
            }
            self.tell();
            let (pause, writing) = (self.pause(), !self.writes.is_empty());
            tokio::select! {
                Some(one) = news.next() => self.hear(one),
                Some(done) = self.writes.next(), if writing => self.done(done),
                changed = ca.changed() => {
                    if changed.is_err() {
                        return Ended::Yields;
                    }
                    let known = ca.borrow_and_update().clone();
                    self.plan(&known);
                }
                Ok(()) = parties.changed() => {
                    if !self.channel.word.is_known(&parties.borrow_and_update()) {
                        // Somebody removed it or changed it by hand: as long as its section is there, it is put back.
                        self.confirmed = None;
                    }
                }
                () = leading.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
            if !leading.works() {
                return Ended::Yields;
            }
        }
    }

    fn pause(&self) -> Duration {
        let idle = self.writes.is_empty() && self.lost.is_none() && self.known.faults().is_empty();
        if idle && self.is_confirmed() { QUIET } else { TICK }
    }

    /// Takes what the CA says: what is to be published from now on.
    fn plan(&mut self, known: &crate::ca::Known) {
        self.away.clone_from(&known.away);
        if known.away.is_some() {
            // It may be another one, or an older one, when it is back.
            self.confirmed = None;
        }
        let Some(trust) = &known.trust else { return };
        let contents = match self.channel.shape.contents(trust) {
            Ok(contents) => contents,
            Err(unfit) => {
                self.unfit = Some(unfit);
                return;
            }
        };
        self.unfit = None;
        self.roots = trust.bundle.roots().len();
        let ours = Ours { ca: trust.trust_domain.clone(), sequence: trust.bundle.sequence().0 };
        let plan = Plan { ours, contents };
        if self.known.plan().is_none_or(|known| **known != plan) {
            self.known.publish(plan);
            (self.right_since, self.confirmed, self.unproven) = (None, None, None);
        }
    }

    fn hear(&mut self, news: News) {
        if let News::Lost(why) = &news {
            tracing::info!(channel = self.channel.name(), why, "a watch was lost");
            if self.lost.is_none() {
                self.not_before = self.not_before.max(self.now() + Duration::from_secs(1));
            }
            self.lost = Some(why.clone());
        }
        self.known.hear(news);
    }

    fn begin_writes(&mut self) {
        // Before, an object that is not known may be there all the same. What is unfit has no place in any.
        if !self.known.is_complete() || self.unfit.is_some() {
            return;
        }
        while self.writes.len() < WRITES_MAX {
            let now = self.now();
            let Some((key, act)) = self.known.next(&self.under_way, now) else { return };
            let Some(plan) = self.known.plan().cloned() else { return };
            let objects = Arc::clone(&self.objects);
            self.under_way.insert(key.clone());
            // Else a cluster where namespaces come all the time would never be waited for to the end.
            if act != Act::Write(None) || !self.known.is_newborn(&key) {
                self.right_since = None;
            }
            self.writes.push(
                async move {
                    let outcome = match (&act, plan.contents.get(&key.name)) {
                        (Act::Write(seen), Some(content)) => {
                            objects.write(&key, content, seen.as_ref()).await.map(Some)
                        }
                        (Act::Delete(seen), _) => objects.delete(&key, seen).await.map(|()| None),
                        (Act::Write(_), None) => Ok(None),
                    };
                    Done { key, act, outcome }
                }
                .boxed(),
            );
        }
    }

    fn done(&mut self, done: Done) {
        let Done { key, act, outcome } = done;
        self.under_way.remove(&key);
        let (metrics, now) = (&self.channel.world.metrics, self.now());
        let named = match &outcome {
            Ok(_) => "done",
            Err(error) if error.is_passing() => "failed",
            Err(_) => "refused",
        };
        metrics.wrote(self.channel.name(), named);
        match outcome {
            Ok(Some(seen)) => {
                let wanted = self.known.plan().and_then(|plan| plan.contents.get(&key.name));
                let taken = wanted.is_none_or(|content| content.print == seen.print);
                // A later plan is none of this write's business.
                let same = seen.mark.as_ref().map(|mark| mark.sequence)
                    == self.known.plan().map(|plan| plan.ours.sequence);
                self.known.saw(key.clone(), seen);
                if !taken && same {
                    let text = "something in the cluster changed what was written: look for an admission webhook or policy that changes it, and exempt this object";
                    self.known.failed(key, text.to_owned(), false, now);
                }
            }
            Ok(None) => {
                if matches!(act, Act::Delete(_)) {
                    self.known.gone(&key);
                }
            }
            Err(error) => {
                let passing = error.is_passing() || matches!(error, ApiError::Gone(_));
                self.known.failed(key.clone(), error.to_string(), passing, now);
                // The watch has not told of what came first: it is read.
                let tries = self.known.faults().get(&key).map_or(0, |fault| fault.tries);
                if passing && tries >= 2 && self.lost.is_none() {
                    self.lost = Some(error.to_string());
                }
            }
        }
    }

    fn is_confirmed(&self) -> bool {
        let sequence = self.known.plan().map(|plan| plan.ours.sequence);
        sequence.is_some_and(|sequence| self.confirmed.is_some_and(|said| said >= sequence))
    }

    /// Reads everything back when it is time for that, and gives the word.
    async fn settle(&mut self) -> Result<(), Ended> {
        let now = self.now();
        if now < self.not_before || !self.writes.is_empty() {
            return Ok(());
        }
        if self.confirmed.is_none() && self.away.is_none() && self.known.plan().is_some() {
            match self.channel.word.known().await {
                Ok(confirmed) => self.confirmed = Some(confirmed),
                Err(error) => self.untaken(error),
            }
        }
        if self.lost.is_some() {
            return self.look().await;
        }
        let is_fit = self.known.is_complete() && self.unfit.is_none();
        self.right_since.take_if(|_| !is_fit || !self.known.is_right_but_for_newborns());
        if !is_fit || !self.known.is_right() || self.is_confirmed() {
            return Ok(());
        }
        let Some(since) = self.right_since else {
            self.look().await?;
            if self.lost.is_none() && self.known.is_right() {
                self.right_since = Some(self.now());
                let sequence = self.known.plan().map_or(0, |plan| plan.ours.sequence);
                self.channel.world.metrics.published(self.channel.name(), sequence);
            }
            return Ok(());
        };
        if self.away.is_some() || now.saturating_sub(since) < self.channel.shape.config().staleness
        {
            return Ok(());
        }
        // The time was over for all of them only if all of them are still right.
        self.look().await?;
        if self.lost.is_none()
            && self.known.is_right()
            && self.channel.world.leading.works()
            && self.is_proven().await
        {
            self.confirm().await;
        }
        Ok(())
    }

    /// Whether no reader through the Gateway API may have taken one of several roots only.
    async fn is_proven(&mut self) -> bool {
        let Channel { world, shape, .. } = self.channel;
        self.unproven = gateways::lacking(world, shape, self.roots).await;
        if self.unproven.is_some() {
            self.not_before = self.now() + READERS_AGAIN;
        }
        self.unproven.is_none()
    }

    async fn confirm(&mut self) {
        let Some(sequence) = self.known.plan().map(|plan| plan.ours.sequence) else { return };
        let (objects, _) = self.known.count();
        match self.channel.word.confirm(sequence, objects).await {
            Ok(confirmed) => {
                tracing::info!(channel = self.channel.name(), sequence, objects, "confirmed");
                self.channel.world.metrics.confirmed(self.channel.name(), confirmed);
                (self.confirmed, self.untaken) = (Some(confirmed), None);
            }
            Err(error) => self.untaken(error),
        }
    }

    fn untaken(&mut self, error: String) {
        self.untaken = Some(error);
        self.confirmed = None;
        self.not_before = self.now() + AGAIN;
    }

    /// Reads everything, as it is now.
    async fn look(&mut self) -> Result<(), Ended> {
        let read = async { Ok((self.objects.namespaces().await?, self.objects.list().await?)) };
        match read.await {
            Ok((namespaces, objects)) => {
                (self.lost, self.unread) = (None, None);
                self.known.looked(namespaces, objects);
                // What is right is no longer to be judged.
                self.begin_writes();
            }
            // Another version of the kind may be there.
            Err(error @ ApiError::Gone(_)) => return Err(Ended::Stuck(error.to_string())),
            Err(error) => {
                self.lost = Some(error.to_string());
                self.unread = Some(error.to_string());
                self.right_since = None;
                self.not_before = self.now() + AGAIN;
            }
        }
        Ok(())
    }

    /// Says how it is.
    fn tell(&mut self) {
        let now = self.now();
        if now.saturating_sub(self.told_at) < TELL_EVERY && !self.writes.is_empty() {
            return;
        }
        self.told_at = now;
        match self.standing() {
            Ok(text) => self.channel.part.ready(text),
            Err(text) => self.channel.part.stuck(text),
        }
    }

    fn standing(&self) -> Result<String, String> {
        if let Some(unfit) = &self.unfit {
            return Err(unfit.clone());
        }
        let Some(plan) = self.known.plan() else {
            let why = self.away.as_deref().unwrap_or("it was not asked yet");
            return Err(format!("waits for the CA's bundle: {why}"));
        };
        let lost = self.lost.as_ref().filter(|_| !self.known.is_complete());
        if let Some(wrong) = self.unread.as_ref().or(lost) {
            return Err(wrong.clone());
        }
        if !self.known.is_complete() {
            return Ok("reads what is there".to_owned());
        }
        let ((all, right), sequence) = (self.known.count(), plan.ours.sequence);
        self.channel.world.metrics.objects(self.channel.name(), all);
        let counted = trust::plain::counted(all, "object", "objects");
        if let Some(worst) = self.known.worst() {
            let faults = self.known.faults().len();
            return Err(format!(
                "{faults} of {counted} cannot be written, and nothing is confirmed; {worst}"
            ));
        }
        if right < all {
            return Ok(format!("writes bundle {sequence}: {right} of {counted} hold it"));
        }
        if let Some(unproven) = self.unproven.as_ref().filter(|_| !self.is_confirmed()) {
            return Err(unproven.clone());
        }
        match (&self.untaken, &self.away, self.right_since) {
            _ if self.is_confirmed() => Ok(format!("{counted} with bundle {sequence}, confirmed")),
            (_, Some(_), _) => Ok(format!("keeps bundle {sequence} in {counted}; the CA is away")),
            (Some(untaken), None, _) => Err(format!(
                "{counted} with bundle {sequence}, and the CA does not take the word: {untaken}"
            )),
            (None, None, Some(since)) => {
                let left = self.channel.shape.config().staleness;
                let left = left.saturating_sub(self.now().saturating_sub(since));
                Ok(format!(
                    "{counted} with bundle {sequence}; readers have it within {}, then it is confirmed",
                    trust::plain::span(Duration::from_secs(left.as_secs()))
                ))
            }
            (None, None, None) => Ok(format!("{counted} with bundle {sequence}, to be read back")),
        }
    }
}
