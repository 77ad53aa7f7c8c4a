//! The leaf profile: how long a leaf lives and what its key may do. Pure: takes `now`, knows no network and no clock.

use std::time::Duration;

use trust::plain::span;
use trust::{KeyKind, Timestamp, Validity};

/// Leaves that live no longer than this carry `noRevAvail` (RFC 9608), unless there are revocation lists: they end before revocation
/// data would matter.
/// Seven days, as the CA/Browser Forum defines a short-lived certificate.
pub const NO_REV_AVAIL_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// The numbers of a profile as written in the configuration, not checked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileSettings {
    /// Lifetime if the request names none. Default 24 h.
    pub ttl_default: Duration,
    /// Longest lifetime. Default 24 h.
    pub ttl_max: Duration,
    /// Shortest lifetime ever issued; below it a request is refused. Default 5 min.
    pub ttl_min: Duration,
    /// How far `notBefore` lies in the past, for peers whose clocks are behind. Default 60 s; at most half of `ttl_min`,
    /// since clients that renew at half of the life would otherwise renew without pause.
    pub backdate: Duration,
    /// What happens to a request above `ttl_max`.
    pub above_max: AboveMax,
    /// Whether there are revocation lists, so that no leaf says that there are none. Default: no.
    pub revocation_lists: bool,
}

impl Default for ProfileSettings {
    fn default() -> Self {
        Self {
            ttl_default: Duration::from_secs(24 * 3600),
            ttl_max: Duration::from_secs(24 * 3600),
            ttl_min: Duration::from_secs(300),
            backdate: Duration::from_secs(60),
            above_max: AboveMax::Cap,
            revocation_lists: false,
        }
    }
}

/// What happens to a request for a longer life than the profile allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AboveMax {
    /// The leaf gets the longest allowed life.
    Cap,
    /// The request is refused.
    Refuse,
}

/// A profile whose numbers fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafProfile(ProfileSettings);

/// Numbers of a profile that do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProfileProblem {
    /// `ttl_min` is zero or has a fraction of a second only.
    #[error("ttl_min must be at least one second")]
    MinimumZero,
    /// `ttl_default` lies outside `ttl_min..=ttl_max`.
    #[error("ttl_default must lie between ttl_min and ttl_max")]
    DefaultOutside,
    /// `ttl_max` is shorter than `ttl_min`.
    #[error("ttl_max must not be shorter than ttl_min")]
    MaximumBelowMinimum,
    /// `backdate` is more than half of `ttl_min`.
    #[error("backdate must be at most half of ttl_min, or clients would renew without pause")]
    BackdateTooLong,
}

/// The time bounds that a request captured with its snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// When every certificate from the issuer up to its root is valid.
    pub signer: Validity,
    /// The durable horizon: no leaf may end later.
    pub horizon: Timestamp,
}

/// The life that a leaf gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// `notBefore` and `notAfter`.
    pub validity: Validity,
    /// What made it shorter than asked for, if anything did.
    pub limit: Option<Limit>,
}

/// What made a life shorter than asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// The profile's `ttl_max`.
    Maximum,
    /// A certificate of the chain ends earlier.
    Signer,
    /// The durable horizon has not been raised far enough yet.
    Horizon,
}

impl Limit {
    /// The limit as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Maximum => "maximum",
            Self::Signer => "signer",
            Self::Horizon => "horizon",
        }
    }
}

/// Why no leaf can be issued for this request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LifetimeRefused {
    /// The request asks for less than `ttl_min`.
    #[error("the requested lifetime of {} is below the minimum of {}: ask for more", span(*asked), span(*minimum))]
    BelowMinimum {
        /// What was asked for.
        asked: Duration,
        /// The profile's `ttl_min`.
        minimum: Duration,
    },
    /// The request asks for more than `ttl_max` and the profile refuses that.
    #[error("the requested lifetime of {} is above the maximum of {}: ask for less", span(*asked), span(*maximum))]
    AboveMaximum {
        /// What was asked for.
        asked: Duration,
        /// The profile's `ttl_max`.
        maximum: Duration,
    },
    /// A certificate of the signer's chain ends too soon for even the shortest leaf.
    #[error("the issuer's chain ends at {not_after}, too soon for a leaf: renew the issuer")]
    SignerEnding {
        /// When it ends.
        not_after: Timestamp,
    },
    /// A certificate of the signer's chain is not valid yet by this machine's clock.
    #[error("the issuer's chain is not valid before {not_before}: check this machine's clock")]
    SignerNotYetValid {
        /// When it starts.
        not_before: Timestamp,
    },
    /// The horizon in force leaves no room for even the shortest leaf. It is raised by the rotation's driver: retry.
    #[error("the durable horizon {horizon} has not been raised yet: retry")]
    HorizonBehind {
        /// The horizon captured with the snapshot.
        horizon: Timestamp,
    },
}

impl LeafProfile {
    /// Checks that the numbers fit together.
    ///
    /// # Errors
    /// Every [`ProfileProblem`] at once.
    pub fn new(settings: ProfileSettings) -> Result<Self, Vec<ProfileProblem>> {
        let ProfileSettings { ttl_default, ttl_max, ttl_min, backdate, .. } = settings;
        let problems: Vec<_> = [
            (ttl_min.as_secs() == 0, ProfileProblem::MinimumZero),
            (ttl_max < ttl_min, ProfileProblem::MaximumBelowMinimum),
            (ttl_default < ttl_min || ttl_default > ttl_max, ProfileProblem::DefaultOutside),
            (backdate > ttl_min / 2, ProfileProblem::BackdateTooLong),
        ]
        .into_iter()
        .filter_map(|(wrong, problem)| wrong.then_some(problem))
        .collect();
        if problems.is_empty() { Ok(Self(settings)) } else { Err(problems) }
    }

    /// The numbers.
    pub const fn settings(&self) -> &ProfileSettings {
        &self.0
    }

    /// Decides the life of one leaf; `asked` counts from `now`, `None` asks for the default.
    ///
    /// A life may come out shorter than asked for ([`Lifetime::limit`] says why), but never shorter than `ttl_min`.
    ///
    /// # Errors
    /// [`LifetimeRefused`] whenever the leaf would live shorter than `ttl_min`, or longer than the profile allows.
    pub fn lifetime(
        &self,
        asked: Option<Duration>,
        now: Timestamp,
        bounds: &Bounds,
    ) -> Result<Lifetime, LifetimeRefused> {
        let Bounds { signer, horizon } = *bounds;
        let (wanted, capped) = self.wanted(asked)?;
        let least = now.plus(self.0.ttl_min);
        if signer.not_before() > now {
            return Err(LifetimeRefused::SignerNotYetValid { not_before: signer.not_before() });
        }
        if signer.not_after() < least {
            return Err(LifetimeRefused::SignerEnding { not_after: signer.not_after() });
        }
        if horizon < least {
            return Err(LifetimeRefused::HorizonBehind { horizon });
        }
        let asked_end = now.plus(wanted);
        let not_after = asked_end.min(signer.not_after()).min(horizon);
        let limit = match not_after {
            end if end == asked_end => capped.then_some(Limit::Maximum),
            end if end == horizon => Some(Limit::Horizon),
            _ => Some(Limit::Signer),
        };
        let not_before = now.minus(self.0.backdate).max(signer.not_before());
        let validity = Validity::new(not_before, not_after)
            .map_err(|_| LifetimeRefused::SignerEnding { not_after: signer.not_after() })?;
        Ok(Lifetime { validity, limit })
    }

    fn wanted(&self, asked: Option<Duration>) -> Result<(Duration, bool), LifetimeRefused> {
        let ProfileSettings { ttl_default, ttl_max, ttl_min, above_max, .. } = self.0;
        match asked {
            None => Ok((ttl_default, false)),
            Some(asked) if asked < ttl_min => {
                Err(LifetimeRefused::BelowMinimum { asked, minimum: ttl_min })
            }
            Some(asked) if asked <= ttl_max => Ok((asked, false)),
            Some(asked) => match above_max {
                AboveMax::Cap => Ok((ttl_max, true)),
                AboveMax::Refuse => Err(LifetimeRefused::AboveMaximum { asked, maximum: ttl_max }),
            },
        }
    }
}

/// Bits of the key usage extension (RFC 5280 §4.2.1.3) for a leaf's key; bit `n` is named bit `n`.
///
/// Every leaf signs handshakes (digitalSignature, bit 0); RSA keys may also be used for key transport by TLS 1.2 peers
/// (keyEncipherment, bit 2).
pub const fn key_usage_bits(kind: KeyKind) -> u16 {
    match kind {
        KeyKind::Rsa { .. } => 0b101,
        KeyKind::P256 | KeyKind::P384 | KeyKind::Ed25519 => 0b001,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn profile(above_max: AboveMax) -> LeafProfile {
        LeafProfile::new(ProfileSettings { above_max, ..ProfileSettings::default() }).unwrap()
    }

    fn bounds(signer_end: Duration, horizon: Duration) -> Bounds {
        let signer = Validity::new(NOW.minus(DAY), NOW.plus(signer_end)).unwrap();
        Bounds { signer, horizon: NOW.plus(horizon) }
    }

    fn ttl(
        asked: Option<Duration>,
        bounds: &Bounds,
    ) -> Result<(Duration, Option<Limit>), LifetimeRefused> {
        let lifetime = profile(AboveMax::Cap).lifetime(asked, NOW, bounds)?;
        Ok((lifetime.validity.not_after().since(NOW), lifetime.limit))
    }

    #[test]
    fn absent_ttl_is_the_default_and_a_present_one_is_taken() {
        let roomy = bounds(DAY * 30, DAY * 30);
        assert_eq!(ttl(None, &roomy), Ok((DAY, None)));
        assert_eq!(ttl(Some(HOUR), &roomy), Ok((HOUR, None)));
    }

    #[test]
    fn huge_ttl_is_capped_or_refused_as_the_profile_says() {
        let roomy = bounds(DAY * 30, DAY * 30);
        assert_eq!(ttl(Some(Duration::MAX), &roomy), Ok((DAY, Some(Limit::Maximum))));
        let refused = profile(AboveMax::Refuse).lifetime(Some(DAY * 2), NOW, &roomy);
        assert_eq!(refused, Err(LifetimeRefused::AboveMaximum { asked: DAY * 2, maximum: DAY }));
    }

    #[test]
    fn a_leaf_ends_with_its_chain_and_with_the_horizon() {
        assert_eq!(ttl(None, &bounds(HOUR, DAY * 30)), Ok((HOUR, Some(Limit::Signer))));
        assert_eq!(ttl(None, &bounds(DAY * 30, HOUR)), Ok((HOUR, Some(Limit::Horizon))));
    }

    #[test]
    fn below_the_minimum_it_is_refused_and_never_cut() {
        let minute = Duration::from_secs(60);
        let short = ttl(Some(minute), &bounds(DAY, DAY));
        assert!(matches!(short, Err(LifetimeRefused::BelowMinimum { .. })));
        assert!(matches!(
            ttl(None, &bounds(minute, DAY)),
            Err(LifetimeRefused::SignerEnding { .. })
        ));
        assert!(matches!(
            ttl(None, &bounds(DAY, minute)),
            Err(LifetimeRefused::HorizonBehind { .. })
        ));
    }

    #[test]
    fn a_signer_of_the_future_is_refused() {
        let signer = Validity::new(NOW.plus(HOUR), NOW.plus(DAY)).unwrap();
        let refused =
            profile(AboveMax::Cap).lifetime(None, NOW, &Bounds { signer, horizon: NOW.plus(DAY) });
        assert!(matches!(refused, Err(LifetimeRefused::SignerNotYetValid { .. })));
    }

    #[test]
    fn not_before_is_backdated_but_not_before_the_signer() {
        let roomy = bounds(DAY * 30, DAY * 30);
        let lifetime = profile(AboveMax::Cap).lifetime(None, NOW, &roomy).unwrap();
        assert_eq!(lifetime.validity.not_before(), NOW.minus(Duration::from_secs(60)));
        let signer = Validity::new(NOW, NOW.plus(DAY * 30)).unwrap();
        let fresh =
            profile(AboveMax::Cap).lifetime(None, NOW, &Bounds { signer, ..roomy }).unwrap();
        assert_eq!(fresh.validity.not_before(), NOW);
    }

    #[test]
    fn numbers_that_do_not_fit_are_all_named() {
        let problems = LeafProfile::new(ProfileSettings {
            ttl_default: DAY,
            ttl_max: HOUR,
            ttl_min: Duration::ZERO,
            backdate: HOUR,
            above_max: AboveMax::Cap,
            revocation_lists: false,
        });
        let expected = vec![
            ProfileProblem::MinimumZero,
            ProfileProblem::DefaultOutside,
            ProfileProblem::BackdateTooLong,
        ];
        assert_eq!(problems, Err(expected));
        let reversed =
            ProfileSettings { ttl_max: HOUR, ttl_min: DAY, ..ProfileSettings::default() };
        assert!(
            LeafProfile::new(reversed).unwrap_err().contains(&ProfileProblem::MaximumBelowMinimum)
        );
    }

    proptest! {
        #[test]
        fn whatever_is_issued_lies_within_every_bound(
            asked in proptest::option::of(0u64..1_000_000),
            signer_end in 0u64..1_000_000,
            horizon in 0u64..1_000_000,
        ) {
            let asked = asked.map(Duration::from_secs);
            let bounds = bounds(Duration::from_secs(signer_end), Duration::from_secs(horizon));
            if let Ok(lifetime) = profile(AboveMax::Cap).lifetime(asked, NOW, &bounds) {
                let end = lifetime.validity.not_after();
                prop_assert!(bounds.signer.encloses(&lifetime.validity));
                prop_assert!(end <= bounds.horizon);
                prop_assert!(end >= NOW.plus(ProfileSettings::default().ttl_min));
                prop_assert!(end <= NOW.plus(asked.unwrap_or(DAY).min(DAY)));
            }
        }
    }
}
