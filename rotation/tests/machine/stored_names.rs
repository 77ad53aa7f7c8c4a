//! The names that records and journals are written with: they stay, whatever the code calls the same things.

use rotation::evidence::{GateName, Hold, RelyingParties, Tally};
use rotation::{
    Advice, BootstrapStep, Bootstrapping, BundleChange, Canary, Cause, CohortSeen, Contents, Cut,
    Distributing, Draining, Effect, Ended, Ending, Event, Evidence, FurtherEntry, FurtherRoot,
    IssuerEntry, IssuerRenewal, Mode, PendingEffect, Phase, Policy, PreparedRoot, Refusal,
    Rehearsal, RootEntry, RootState, Rotation, Segment, SegmentState, Share, Sighting, Sightings,
    SignedIssuer, Staging, StagingStep, State, Steady, Taint, Trouble, Verb, Wait, Withdrawing,
};
use serde::de::value::{Error, U64Deserializer};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer as _,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::words::*;

/// Is asked for one type, writes down the names that it would read, and reads nothing.
struct Asked<'a> {
    names: &'a mut Vec<String>,
    is_enum: &'a mut bool,
    /// Which variant of an enum is looked into.
    variant: usize,
}

fn nothing<T>() -> Result<T, Error> {
    Err(Error::custom("there is nothing to read"))
}

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        nothing()
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.names.push(fields.join(" "));
        nothing()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.is_enum = true;
        let Some(variant) = variants.get(self.variant) else { return nothing() };
        self.names.push((*variant).to_owned());
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl<'de> EnumAccess<'de> for Asked<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let index: U64Deserializer<Error> =
            u64::try_from(self.variant).map_err(Error::custom)?.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Asked<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        nothing()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Error> {
        nothing()
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        nothing()
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.names.push(fields.join(" "));
        nothing()
    }
}

/// One line for a struct, and one for each variant of an enum.
fn names_of<'de, T: Deserialize<'de>>(what: &str) -> String {
    let mut text = String::new();
    for variant in 0.. {
        let (mut names, mut is_enum) = (Vec::new(), false);
        let _ = T::deserialize(Asked { names: &mut names, is_enum: &mut is_enum, variant });
        if !names.is_empty() {
            text.push_str(&format!("{what}: {}\n", names.join(": ")));
        }
        if names.is_empty() || !is_enum {
            break;
        }
    }
    assert!(!text.is_empty(), "{what} has no names");
    text
}

#[test]
fn records_and_journals_are_written_with_the_names_of_the_first_release() {
    let names = [
        names_of::<State>("state"),
        names_of::<Phase>("phase"),
        names_of::<Bootstrapping>("bootstrap"),
        names_of::<BootstrapStep>("bootstrap step"),
        names_of::<Steady>("steady"),
        names_of::<Ended>("ended"),
        names_of::<Rotation>("rotation"),
        names_of::<Mode>("mode"),
        names_of::<Staging>("staging"),
        names_of::<StagingStep>("staging step"),
        names_of::<Distributing>("distributing"),
        names_of::<Canary>("canary"),
        names_of::<Share>("share"),
        names_of::<Trouble>("trouble"),
        names_of::<CohortSeen>("cohort"),
        names_of::<Draining>("draining"),
        names_of::<Ending>("ending"),
        names_of::<Withdrawing>("withdrawing"),
        names_of::<BundleChange>("bundle change"),
        names_of::<RootState>("root state"),
        names_of::<RootEntry>("root"),
        names_of::<Taint>("taint"),
        names_of::<Cut>("cut"),
        names_of::<IssuerEntry>("issuer"),
        names_of::<Rehearsal>("rehearsal"),
        names_of::<IssuerRenewal>("renewal"),
        names_of::<FurtherEntry>("further"),
        names_of::<FurtherRoot>("further root"),
        names_of::<Segment>("segment"),
        names_of::<SegmentState>("segment state"),
        names_of::<Contents>("contents"),
        names_of::<Sightings>("sightings"),
        names_of::<Sighting>("sighting"),
        names_of::<Effect>("effect"),
        names_of::<PendingEffect>("pending"),
        names_of::<Event>("event"),
        names_of::<PreparedRoot>("prepared root"),
        names_of::<SignedIssuer>("signed issuer"),
        names_of::<Evidence>("evidence"),
        names_of::<Tally>("tally"),
        names_of::<RelyingParties>("relying parties"),
        names_of::<Policy>("policy"),
        names_of::<Refusal>("refusal"),
        names_of::<Cause>("cause"),
        names_of::<GateName>("gate"),
        names_of::<Hold>("hold"),
        names_of::<Advice>("advice"),
        names_of::<Verb>("verb"),
        names_of::<Wait>("wait"),
    ];
    assert_eq!(names.concat(), include_str!("stored_names.txt"));
}

#[test]
fn a_refusal_is_written_with_the_names_of_the_first_release_and_read_with_the_present_ones() {
    let state = after(start(), 1_000, &[bootstrap("f")]);
    let refusal = rotation::step(&state, &bootstrap("g"), at(1_000), &policy()).unwrap_err();
    let written = serde_json::to_value(&refusal).unwrap();
    assert_eq!(written["phase"], "founding");
    assert_eq!(written["event"], "founding_requested");
    let read: Refusal = serde_json::from_value(written).unwrap();
    assert_eq!(
        (read.phase.as_str(), read.event.as_str()),
        ("bootstrapping", "bootstrap_requested")
    );
    assert_eq!(read, *refusal);
}
