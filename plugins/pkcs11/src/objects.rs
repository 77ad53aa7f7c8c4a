//! Keys as objects of a token: found, made, listed, destroyed.
//!
//! A key is a private and a public key object whose `CKA_LABEL` and `CKA_ID` are its key id. Both are made with another
//! `CKA_ID` and get the right one when they are whole, the private one last: what a crash left half-made is never taken
//! for a key, and is cleared away when the key is asked for again. Of a destroyed key a data object remains, so that its
//! request makes no second one.

use std::collections::{BTreeMap, BTreeSet};

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState};
use plugins::memory::{destroyed, other_spec};
use plugins::{KeyError, KeyHandle, KeyId, KeySpec, RequestId};

use crate::encoding::{ec_params, public_key, spec_of, to_be_signed, x509_signature};
use crate::found::Found;
use crate::pool::lock;
use crate::trouble::Trouble;
use crate::worker::Desk;

/// `CKA_ID` of a key that is not whole yet. No key id has a space.
const UNFINISHED: &[u8] = b"unfinished key";
/// `CKA_APPLICATION` of what remains of destroyed keys.
const APPLICATION: &[u8] = b"banyan";

impl Desk<'_> {
    /// The key, from memory or from the token.
    pub(crate) fn key(&mut self, id: &KeyId) -> Result<Found, Trouble> {
        if let Some(found) = self.keys.get(id) {
            return Ok(found.clone());
        }
        let found = match self.is_destroyed(id)? {
            true => None,
            false => self.find(id)?,
        };
        let found = found.ok_or_else(|| KeyError::NotFound { id: id.clone() })?;
        self.keys.insert(id.clone(), found.clone());
        Ok(found)
    }

    pub(crate) fn sign(
        &mut self,
        id: &KeyId,
        message: &[u8],
        spec: Option<KeySpec>,
    ) -> Result<Vec<u8>, Trouble> {
        let key = self.key(id)?;
        if spec != Some(key.spec) {
            let detail = format!("a {0} key signs with {1:?} only", key.spec, key.spec.algorithm());
            return Err(KeyError::Unsupported { detail }.into());
        }
        let mechanism = match key.spec {
            KeySpec::P256 | KeySpec::P384 => Mechanism::Ecdsa,
            KeySpec::Ed25519 => Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)),
        };
        let signature =
            self.session.sign(&mechanism, key.private, &to_be_signed(key.spec, message))?;
        x509_signature(key.spec, &signature).ok_or_else(|| {
            let detail = format!(
                "the token gave {} bytes as a signature of a {} key",
                signature.len(),
                key.spec
            );
            KeyError::Permanent { detail }.into()
        })
    }

    pub(crate) fn generate(
        &mut self,
        request_id: &RequestId,
        spec: KeySpec,
    ) -> Result<KeyHandle, Trouble> {
        let _making = lock(self.calls.making());
        let id = KeyId::for_request(request_id);
        if self.is_destroyed(&id)? {
            return Err(destroyed(request_id).into());
        }
        let found = match self.find(&id)? {
            Some(found) if found.spec != spec => {
                return Err(other_spec(request_id, found.spec).into());
            }
            Some(found) => found,
            None => {
                self.clear_unfinished(&id)?;
                self.make(&id, spec)?
            }
        };
        self.keys.insert(id.clone(), found.clone());
        Ok(KeyHandle::new(id, found.public))
    }

    pub(crate) fn list(&mut self) -> Result<Vec<KeyHandle>, Trouble> {
        let gone = self.all_destroyed()?;
        let mut list = BTreeMap::new();
        for private in self.objects(ObjectClass::PRIVATE_KEY, &[Attribute::Sign(true)])? {
            let Some(id) = id_of(self.session, private)?.filter(|id| !gone.contains(id)) else {
                continue;
            };
            let Some(found) = self.find(&id)? else { continue };
            list.insert(id, found.public);
        }
        Ok(list.into_iter().map(|(id, public)| KeyHandle::new(id, public)).collect())
    }

    /// Leaves a mark first: a crash after it is a destruction that the next call finishes.
    pub(crate) fn destroy(&mut self, id: &KeyId) -> Result<(), Trouble> {
        let _making = lock(self.calls.making());
        let (is_destroyed, whole) = (self.is_destroyed(id)?, whole(id));
        let private = self.objects(ObjectClass::PRIVATE_KEY, &whole)?;
        if private.is_empty() && !is_destroyed {
            return self.token.may_lack(id);
        }
        if !is_destroyed {
            self.session.create_object(&[
                Attribute::Class(ObjectClass::DATA),
                Attribute::Token(true),
                Attribute::Private(true),
                Attribute::Application(APPLICATION.to_vec()),
                Attribute::Label(id.as_str().into()),
                Attribute::Value(b"destroyed".to_vec()),
            ])?;
        }
        self.token.forget_handles();
        let public = self.objects(ObjectClass::PUBLIC_KEY, &whole)?;
        for object in private.into_iter().chain(public) {
            self.session.destroy_object(object)?;
        }
        self.token.forget(id);
        Ok(())
    }

    /// Whether it is still there and answers, without a signature.
    pub(crate) fn look(&self) -> Result<(), Trouble> {
        let (_, info) = self.token.find(self.calls.context())?;
        if info.error_state() {
            return Err(Trouble::Lost("it reports an error state".to_owned()));
        }
        self.is_logged_in()?;
        self.all_destroyed().map(|_| ())
    }

    /// The whole key of this id. One is whole if its private half is; a public half alone is none.
    fn find(&self, id: &KeyId) -> Result<Option<Found>, Trouble> {
        let private = self.objects(ObjectClass::PRIVATE_KEY, &whole(id))?;
        let [private] = private.as_slice() else {
            return match private.len() {
                0 => self.token.may_lack(id).map(|()| None),
                several => Err(wrong(id, &format!("has {several} private keys"))),
            };
        };
        let public = self.objects(ObjectClass::PUBLIC_KEY, &whole(id))?;
        let [public] = public.as_slice() else {
            return Err(wrong(id, &format!("has {} public keys", public.len())));
        };
        let found = self.found(id, *private, *public)?;
        self.token.learn(id);
        Ok(Some(found))
    }

    fn found(
        &self,
        id: &KeyId,
        private: ObjectHandle,
        public: ObjectHandle,
    ) -> Result<Found, Trouble> {
        let (mut params, mut point) = (None, None);
        for attribute in self
            .session
            .get_attributes(public, &[AttributeType::EcParams, AttributeType::EcPoint])?
        {
            match attribute {
                Attribute::EcParams(bytes) => params = Some(bytes),
                Attribute::EcPoint(bytes) => point = Some(bytes),
                _ => {}
            }
        }
        let spec = params.as_deref().and_then(spec_of);
        let spec = spec.ok_or_else(|| wrong(id, "is on a curve that Banyan does not use"))?;
        let public = public_key(spec, point.as_deref().unwrap_or_default());
        let public = public.map_err(|error| {
            wrong(id, &format!("has a public key that cannot be used ({error})"))
        })?;
        Ok(Found { private, spec, public })
    }

    fn make(&self, id: &KeyId, spec: KeySpec) -> Result<Found, Trouble> {
        let label = || Attribute::Label(id.as_str().into());
        let (unfinished, finished) =
            (Attribute::Id(UNFINISHED.to_vec()), Attribute::Id(id.as_str().into()));
        let mechanism = match spec {
            KeySpec::P256 | KeySpec::P384 => Mechanism::EccKeyPairGen,
            KeySpec::Ed25519 => Mechanism::EccEdwardsKeyPairGen,
        };
        let public = [
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::EcParams(ec_params(spec).to_vec()),
            label(),
            unfinished.clone(),
        ];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            label(),
            unfinished,
        ];
        let (public, private) = self.session.generate_key_pair(&mechanism, &public, &private)?;
        self.check_guarded(id, private)?;
        let found = self.found(id, private, public)?;
        self.session.update_attributes(public, std::slice::from_ref(&finished))?;
        self.session.update_attributes(private, &[finished])?;
        self.token.learn(id);
        Ok(found)
    }

    /// Whether the token took what was asked of a private key to heart.
    fn check_guarded(&self, id: &KeyId, private: ObjectHandle) -> Result<(), Trouble> {
        let wanted = [AttributeType::Sensitive, AttributeType::Extractable];
        let has = self.session.get_attributes(private, &wanted)?;
        let guarded = has.contains(&Attribute::Sensitive(true))
            && has.contains(&Attribute::Extractable(false));
        guarded
            .then_some(())
            .ok_or_else(|| wrong(id, "was made in a form that lets it out of the token"))
    }

    fn clear_unfinished(&self, id: &KeyId) -> Result<(), Trouble> {
        let label = Attribute::Label(id.as_str().into());
        let unfinished = [label.clone(), Attribute::Id(UNFINISHED.to_vec())];
        let mut objects = self.objects(ObjectClass::PRIVATE_KEY, &unfinished)?;
        // A public half that got its name before the crash.
        objects.extend(self.objects(ObjectClass::PUBLIC_KEY, &[label])?);
        for object in objects {
            self.session.destroy_object(object)?;
        }
        Ok(())
    }

    fn is_destroyed(&self, id: &KeyId) -> Result<bool, Trouble> {
        let marks =
            [Attribute::Application(APPLICATION.to_vec()), Attribute::Label(id.as_str().into())];
        Ok(!self.objects(ObjectClass::DATA, &marks)?.is_empty())
    }

    fn all_destroyed(&self) -> Result<BTreeSet<KeyId>, Trouble> {
        let marks =
            self.objects(ObjectClass::DATA, &[Attribute::Application(APPLICATION.to_vec())])?;
        let mut ids = BTreeSet::new();
        for mark in marks {
            ids.extend(label_of(self.session, mark)?);
        }
        Ok(ids)
    }

    /// The token's objects of a class with these attributes. A session whose login is gone sees no private ones, which
    /// is not the same as none.
    fn objects(
        &self,
        class: ObjectClass,
        attributes: &[Attribute],
    ) -> Result<Vec<ObjectHandle>, Trouble> {
        let mut template = vec![Attribute::Token(true), Attribute::Class(class)];
        template.extend_from_slice(attributes);
        let objects = self.session.find_objects(&template)?;
        if objects.is_empty() && class != ObjectClass::PUBLIC_KEY {
            self.is_logged_in()?;
        }
        Ok(objects)
    }

    fn is_logged_in(&self) -> Result<(), Trouble> {
        match self.session.get_session_info()?.session_state() {
            SessionState::RwUser | SessionState::RoUser => Ok(()),
            state => Err(Trouble::Lost(format!("the login is gone ({state:?})"))),
        }
    }
}

fn whole(id: &KeyId) -> [Attribute; 2] {
    [Attribute::Label(id.as_str().into()), Attribute::Id(id.as_str().into())]
}

/// The key id of a key object; none if the object is not one of ours, or not whole.
fn id_of(session: &Session, object: ObjectHandle) -> Result<Option<KeyId>, Trouble> {
    let attributes = session.get_attributes(object, &[AttributeType::Id])?;
    let id = attributes.into_iter().find_map(|attribute| match attribute {
        Attribute::Id(bytes) => Some(bytes),
        _ => None,
    });
    Ok(label_of(session, object)?.filter(|label| id.as_deref() == Some(label.as_str().as_bytes())))
}

fn label_of(session: &Session, object: ObjectHandle) -> Result<Option<KeyId>, Trouble> {
    let attributes = session.get_attributes(object, &[AttributeType::Label])?;
    Ok(attributes.into_iter().find_map(|attribute| match attribute {
        Attribute::Label(bytes) => KeyId::parse(std::str::from_utf8(&bytes).ok()?).ok(),
        _ => None,
    }))
}

fn wrong(id: &KeyId, what: &str) -> Trouble {
    let detail =
        format!("key {id} on the token {what}; look at its objects with the vendor's tool");
    KeyError::Permanent { detail }.into()
}
