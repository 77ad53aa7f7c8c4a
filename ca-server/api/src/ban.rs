//! `banyan.admin.v1.BanService`: agents, identities and keys that get no certificate, by an operator's word.

use std::sync::Arc;
use std::time::Duration;

use auth::refusal::{Reason, Refusal};
use proto::banyan::admin::v1::ban_service_server::BanService;
use proto::banyan::admin::v1::ban_subject::Subject;
use proto::banyan::admin::v1::{
    AddBanRequest, AddBanResponse, BanSubject as BanSubjectMessage, ListStandingBansRequest,
    ListStandingBansResponse, RemoveBanRequest, RemoveBanResponse, StandingBan,
};
use registry::{Ban, BanRow, BanSubject, RegistryError};
use rotation_driver::Word;
use tonic::{Request, Response, Status};
use trust::plain::span;
use trust::{SpiffeId, SpkiHash, Timestamp};

use crate::admin::Operators;
use crate::words::{self, invalid};
use crate::{agent_admin, covers, page, wire};
use control::bans;
use control::ca::Ca;
use control::leaves::Gate;

/// How long a ban stands that ends by itself.
const LASTS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(3_650 * 86_400)];
/// Leaves that an answer names.
const LEAVES_MAX: usize = 100;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Bans {
    ca: Arc<Ca>,
    operators: Operators,
}

impl Bans {
    pub(crate) const fn new(ca: Arc<Ca>, operators: Operators) -> Self {
        Self { ca, operators }
    }

    fn list(&self, asked: &ListStandingBansRequest) -> ListStandingBansResponse {
        let now = self.ca.clock.now();
        let limit = page::limit(asked.limit).saturating_add(1);
        let rows = self.ca.registry.all_bans_after(&asked.after, limit);
        let (rows, next) = page::cut(rows, asked.limit, |(subject, _)| subject.id());
        let bans = rows.iter().map(|(subject, ban)| shown(subject, ban, now)).collect();
        ListStandingBansResponse { bans, next: next.unwrap_or_default() }
    }

    async fn add(&self, asked: AddBanRequest, caller: &str) -> Result<AddBanResponse, Refusal> {
        let word = words::full_word(&asked.by, &asked.reason, caller)?;
        let subject = self.subject(asked.subject)?;
        self.may_be_banned(&subject)?;
        let now = self.ca.believed_now()?;
        let until = until(asked.lasts_seconds, now)?;
        let ban = Ban { word: row(&word, now), until, agent: None };
        let rows = bans::covered(&self.ca, &subject);
        let former = self.ca.registry.ban(&subject);
        let answer = {
            let state = self.ca.driver.state();
            let gate = Gate::of(&self.ca, &state);
            AddBanResponse {
                ban: Some(shown(&subject, &ban, now)),
                former: former.map(|former| shown(&subject, &former, now)),
                leaves: rows
                    .iter()
                    .take(LEAVES_MAX)
                    .map(|live| wire::leaf(&gate.leaf(live)))
                    .collect(),
                leaves_total: u64::try_from(rows.len()).unwrap_or(u64::MAX),
                leaves_until: rows.first().map_or(0, |live| live.row.not_after.as_secs()),
                agents: self.ca.registry.agents_banned_by(&subject),
                said: bans::said(&self.ca, &subject, &ban, &rows),
            }
        };
        if asked.dry_run {
            return Ok(answer);
        }
        self.confirmed(&subject, &asked.confirm, caller)?;
        let lasts = ban.until.map_or("until it is lifted".to_owned(), |end| format!("until {end}"));
        words::journal(&self.ca, &word, "ban add", subject.to_string(), lasts).await?;
        tracing::warn!(
            %subject,
            until = ban.until.map(tracing::field::display),
            by = word.by,
            reason = word.reason,
            leaves = rows.len(),
            "no certificate is issued any more, by an operator's word"
        );
        self.ca.registry.add_ban(subject, ban).await?;
        self.ca.crl.wake();
        for agent in &answer.agents {
            self.ca.sessions.judge_again(agent);
        }
        Ok(answer)
    }

    async fn remove(
        &self,
        asked: RemoveBanRequest,
        caller: &str,
    ) -> Result<RemoveBanResponse, Refusal> {
        let word = words::full_word(&asked.by, &asked.reason, caller)?;
        let subject = self.subject(asked.subject)?;
        // What is not there is not written down either.
        let Some(ban) = self.ca.registry.ban(&subject) else {
            return Err(RegistryError::BanUnknown(subject.to_string()).into());
        };
        let now = self.ca.clock.now();
        words::journal(&self.ca, &word, "ban remove", subject.to_string(), "").await?;
        let lifted = Some(shown(&subject, &ban, now));
        self.ca.registry.lift_ban(subject.clone(), row(&word, now)).await?;
        self.ca.crl.wake();
        tracing::warn!(%subject, by = word.by, reason = word.reason, "a ban was lifted");
        Ok(RemoveBanResponse { lifted })
    }

    fn subject(&self, asked: Option<BanSubjectMessage>) -> Result<BanSubject, Refusal> {
        let domain = self.ca.id.trust_domain();
        match asked.and_then(|message| message.subject) {
            Some(Subject::Agent(name)) => agent_admin::name(&name, domain).map(BanSubject::Agent),
            Some(Subject::Identity(text)) => {
                let one = covers::read(&self.ca, &[text])?;
                let nobody = || invalid("name a SPIFFE id, or one with /* behind it".to_owned());
                one.into_iter().next().map(BanSubject::Identity).ok_or_else(nobody)
            }
            Some(Subject::Key(bytes)) => {
                let none = || invalid("a key is named by the 32 bytes of its SHA-256".to_owned());
                SpkiHash::from_bytes(&bytes).map(BanSubject::Key).ok_or_else(none)
            }
            None => Err(invalid("name an agent, an identity or a key".to_owned())),
        }
    }

    /// The names and keys of this CA's own are no one else's, and never banned.
    fn may_be_banned(&self, subject: &BanSubject) -> Result<(), Refusal> {
        let refused = |text: String, advice: &str| {
            Err(Refusal::advised(Reason::RequestInvalid, text, advice))
        };
        match subject {
            BanSubject::Agent(_) | BanSubject::Leaf(_) | BanSubject::Issuer(_) => Ok(()),
            BanSubject::Identity(cover) => {
                let whole = cover.to_string();
                let id = SpiffeId::parse(whole.strip_suffix("/*").unwrap_or(&whole)).ok();
                let Some(id) = id.filter(SpiffeId::is_reserved) else { return Ok(()) };
                match id.agent_name() {
                    Some(name) if cover.one().is_some() => refused(
                        format!("{cover} is the name of an agent"),
                        &format!("`banyan ban add --agent {name} --reason TEXT` bans that"),
                    ),
                    _ => refused(
                        format!("{cover} is a name of this CA's own: its servers keep theirs"),
                        "to take a server out, `banyan replica remove`; agents are banned one by one with `banyan ban add --agent`",
                    ),
                }
            }
            BanSubject::Key(key) => {
                let snapshot = self.ca.cell.load();
                match self.ca.authorizer.is_of_ca(key, &snapshot) {
                    false => Ok(()),
                    true => refused(
                        format!("{key} is a key of this CA's own"),
                        "what is stolen of a CA is replaced: `banyan root distrust` for a root, `banyan issuer renew` for an issuer",
                    ),
                }
            }
        }
    }

    /// Who bans everybody, or itself, types it twice.
    fn confirmed(&self, subject: &BanSubject, typed: &str, caller: &str) -> Result<(), Refusal> {
        let everybody = bans::is_of_everybody(&self.ca, subject);
        let itself = SpiffeId::parse(caller).is_ok_and(|caller| bans::is_about(subject, &caller));
        let BanSubject::Identity(cover) = subject else { return Ok(()) };
        if !(everybody || itself) || typed == cover.to_string() {
            return Ok(());
        }
        let what = match everybody {
            true => format!("{cover} is every workload of this CA: none would get a certificate"),
            false => format!("{cover} is about {caller}, who asks for it and could not lift it"),
        };
        let advice = format!("to do it, write it once more: --confirm '{cover}'");
        Err(Refusal::advised(Reason::RequestInvalid, what, &advice))
    }
}

fn row(word: &Word, at: Timestamp) -> BanRow {
    BanRow { by: word.by.clone(), reason: word.reason.clone(), at }
}

fn until(lasts: i64, now: Timestamp) -> Result<Option<Timestamp>, Refusal> {
    if lasts == 0 {
        return Ok(None);
    }
    let [least, most] = LASTS;
    let lasts = u64::try_from(lasts).ok().map(Duration::from_secs);
    let fits = lasts.filter(|lasts| (least..=most).contains(lasts));
    let refused = || {
        let (least, most) = (span(least), span(most));
        invalid(format!("a ban that ends by itself stands for {least} to {most} from now"))
    };
    fits.map(|lasts| Some(now.plus(lasts))).ok_or_else(refused)
}

fn shown(subject: &BanSubject, ban: &Ban, now: Timestamp) -> StandingBan {
    let subject = match subject {
        BanSubject::Agent(name) => Some(Subject::Agent(name.clone())),
        BanSubject::Identity(cover) => Some(Subject::Identity(cover.to_string())),
        BanSubject::Key(key) => Some(Subject::Key(key.as_bytes().to_vec())),
        // Told where leaves and issuers are.
        BanSubject::Leaf(_) | BanSubject::Issuer(_) => None,
    };
    let BanRow { by, reason, at } = ban.word.clone();
    StandingBan {
        subject: Some(BanSubjectMessage { subject }),
        until: ban.until.map_or(0, Timestamp::as_secs),
        stands: ban.stands(now),
        by,
        reason,
        at: at.as_secs(),
    }
}

#[tonic::async_trait]
impl BanService for Bans {
    async fn list_standing_bans(
        &self,
        request: Request<ListStandingBansRequest>,
    ) -> Result<Response<ListStandingBansResponse>, Status> {
        self.operators.answer(&self.ca, request, async |asked, _| Ok(self.list(&asked))).await
    }

    async fn add_ban(
        &self,
        request: Request<AddBanRequest>,
    ) -> Result<Response<AddBanResponse>, Status> {
        self.operators.answer(&self.ca, request, async |asked, by| self.add(asked, by).await).await
    }

    async fn remove_ban(
        &self,
        request: Request<RemoveBanRequest>,
    ) -> Result<Response<RemoveBanResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, by| self.remove(asked, by).await)
            .await
    }
}
