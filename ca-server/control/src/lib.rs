//! What runs by itself in a CA, and what there is to say of it.
//!
//! It knows no socket and no message: what clients meet is the port [`front::Front`], and everything that operators are told is a
//! value here, which the crate `api` turns into messages. Nor does it read the configuration: each part takes settings of its
//! own.
//!
//! | module | what |
//! |---|---|
//! | [`ca`] | what every handler works with |
//! | [`upkeep`] | the one task that keeps a server up: snapshots, horizon, its own leaf, the issuer, readiness |
//! | [`snapshots`], [`own_issuer`], [`own_leaf`], [`ca_keys`] | from the record to what requests are served from |
//! | [`work`] | what effects of the machine work on; `effects` and `issuing` perform them, `requests` and `tickets` make that safe to repeat |
//! | [`evidence`] | what gates rest on |
//! | [`release`] | what leaves this server, and when |
//! | [`duty`] | whether what is served is as new as the record, and which part of the work is this server's |
//! | [`authority_upkeep`], [`further_roots`], [`authority_health`] | what is asked of root authorities without anybody asking |
//! | [`drift`], [`further`], [`target`] | what they would give, compared with the record: pure, but for the last |
//! | [`bundles`] | bundles of the past, and the signature of each change |
//! | [`seen`], [`hear`] | what agents hold that the record never published |
//! | [`reissue`], [`issuers`] | leaves of a root that drains or an issuer that is distrusted, asked for at a pace |
//! | [`peers`] | the other servers: whose row is it, and what agents said of it |
//! | [`hierarchy`] | the upstream CA, which is followed, and downstream CAs, which are counted |
//! | [`crl`] | revocation lists: who is on them, for which roots they are complete, and who has them |
//! | [`federated`] | what is known of other trust domains |
//! | [`levels`], [`findings`], [`footing`], [`logs`], [`clock`], [`machine`] | what shall be so and is not |
//! | [`compaction`] | the ledger forgets, beside everything else |
//! | [`status`], [`conditions`], [`roots`], [`roster`], [`leaves`], [`bans`], [`revoked`] | what operators see |
//! | [`explain`], [`forecast`] | where a rotation stands, who holds its gate, and what one would wait for |
//! | [`metrics`], [`gauges`], [`metered`] | what is counted |
//!
//! Start at [`upkeep::Upkeep::run`] for what goes on, and at [`status::of`] and [`explain::look`] for what is told of it.
#![forbid(unsafe_code)]

pub mod authority_health;
pub mod authority_upkeep;
mod away;
pub mod bans;
pub mod bundles;
pub mod ca;
pub mod ca_keys;
pub mod canary;
pub mod causes;
pub mod census;
pub mod clock;
mod cohort;
pub mod compaction;
pub mod conditions;
pub mod counts;
pub mod crl;
pub mod cross_net;
mod cross_rehearsal;
pub mod cross_upkeep;
pub mod drift;
pub mod due;
pub mod duty;
mod effects;
pub mod emergency;
pub mod evidence;
pub mod explain;
pub mod exposure;
pub mod federated;
pub mod findings;
pub mod footing;
pub mod forecast;
pub mod former;
pub mod front;
pub mod further;
pub mod further_roots;
pub mod gauges;
pub mod handshakes;
pub mod hear;
pub mod hierarchy;
pub mod hush;
pub mod issuers;
mod issuing;
pub mod leaves;
pub mod levels;
pub mod logs;
pub mod machine;
pub mod metered;
pub mod metrics;
pub mod neighbors;
pub mod own_issuer;
pub mod own_leaf;
mod own_trust;
pub mod paths;
pub mod peers;
mod probe_upkeep;
pub mod probing;
pub mod recovery;
pub mod refusals;
pub mod rehearsing;
pub mod reissue;
pub mod release;
pub mod replication;
pub mod reporting;
pub mod reports;
mod requests;
pub mod revoked;
pub mod roots;
pub mod roster;
pub mod schedule;
pub mod seen;
pub mod servers;
pub mod snapshots;
pub mod standby;
mod standby_upkeep;
pub mod status;
mod stored;
pub mod target;
mod tickets;
pub mod upkeep;
pub mod work;
