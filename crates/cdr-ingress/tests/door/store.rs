//! An intake in memory that does as it is told.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cdr_core::{Incoming, Intake, NotStored, Position, Quarantined, Stored, Suspect};
use cdr_ingress::{Door, DoorHandle, IngressSettings, Verdict};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

/// What is kept, and how the next ones are treated.
pub struct Store {
    pub kept: Mutex<Vec<Incoming>>,
    pub quarantine: Mutex<HashMap<[u8; 32], Suspect>>,
    pub refuse: Mutex<Option<NotStored>>,
    pub refuse_quarantine: Mutex<Option<NotStored>>,
    /// How many pushes were handed over.
    pub handed_over: AtomicUsize,
    /// Every store takes one of these; a test that holds them all holds the disk.
    pub disk: Semaphore,
}

const FREE: u32 = 1 << 20;

impl Default for Store {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            quarantine: Mutex::default(),
            refuse: Mutex::default(),
            refuse_quarantine: Mutex::default(),
            handed_over: AtomicUsize::new(0),
            disk: Semaphore::new(FREE as usize),
        }
    }
}

/// What the door hands its pushes to.
struct Behind(Arc<Store>);

impl Intake for Behind {
    type Storing = Pin<Box<dyn Future<Output = Result<Stored, NotStored>> + Send>>;

    fn store(&self, push: Incoming) -> Self::Storing {
        let store = Arc::clone(&self.0);
        Box::pin(async move { store.store(push).await })
    }

    async fn quarantine(&self, suspect: Suspect) -> Result<Quarantined, NotStored> {
        self.0.quarantine(suspect)
    }
}

impl Store {
    async fn store(&self, push: Incoming) -> Result<Stored, NotStored> {
        self.handed_over.fetch_add(1, Ordering::Relaxed);
        let _disk = self.disk.acquire().await.unwrap();
        if let Some(why) = self.refuse.lock().unwrap().clone() {
            return Err(why);
        }
        let mut kept = self.kept.lock().unwrap();
        let is_repeat = |other: &Incoming| {
            (&other.facts.uuid, other.facts.sha256) == (&push.facts.uuid, push.facts.sha256)
        };
        let place = kept.iter().position(is_repeat);
        let uuid = push.facts.uuid.clone();
        let uuid_reused =
            place.is_none() && uuid.is_some() && kept.iter().any(|other| other.facts.uuid == uuid);
        if place.is_none() {
            kept.push(push);
        }
        let position = Position(place.map_or(kept.len(), |index| index + 1) as u64);
        Ok(Stored { position, repeat: place.is_some(), uuid_reused })
    }

    fn quarantine(&self, suspect: Suspect) -> Result<Quarantined, NotStored> {
        if let Some(why) = self.refuse_quarantine.lock().unwrap().clone() {
            return Err(why);
        }
        let mut quarantine = self.quarantine.lock().unwrap();
        let repeat = quarantine.insert(suspect.facts.sha256, suspect).is_some();
        Ok(Quarantined { number: Position(700 + quarantine.len() as u64), repeat })
    }

    pub fn bodies(&self) -> Vec<String> {
        let text = |push: &Incoming| String::from_utf8_lossy(&push.body).into_owned();
        self.kept.lock().unwrap().iter().map(text).collect()
    }

    /// Lets no commit finish until this is dropped.
    pub async fn hold_disk(&self) -> SemaphorePermit<'_> {
        self.disk.acquire_many(FREE).await.unwrap()
    }

    /// Waits until so many pushes were handed over.
    pub async fn was_handed(&self, pushes: usize) {
        eventually("pushes are handed over", || self.handed_over.load(Ordering::Relaxed) == pushes).await;
    }

    /// The only push that is kept.
    pub fn only(&self) -> Incoming {
        let kept = self.kept.lock().unwrap();
        assert_eq!(kept.len(), 1);
        kept[0].clone()
    }
}

/// A door that serves, and what is behind it.
pub struct House {
    pub door: DoorHandle,
    pub store: Arc<Store>,
    pub settings: IngressSettings,
    shutdown: Option<oneshot::Sender<()>>,
    served: Option<tokio::task::JoinHandle<()>>,
}

impl House {
    /// Opens a door with these settings; `listen` is ours.
    pub async fn open(settings: serde_json::Value) -> Self {
        let mut settings: IngressSettings = cdr_core::setting::read(settings).expect("readable settings");
        settings.listen = ([127, 0, 0, 1], 0).into();
        let door = Door::bind(settings.clone()).await.expect("a door");
        let (handle, store) = (door.handle(), Arc::new(Store::default()));
        let (shutdown, told) = oneshot::channel::<()>();
        let intake = Arc::new(Behind(Arc::clone(&store)));
        let served = tokio::spawn(async move { door.serve(intake, async { drop(told.await) }).await });
        Self { door: handle, store, settings, shutdown: Some(shutdown), served: Some(served) }
    }

    pub fn count(&self, verdict: Verdict) -> u64 {
        self.door.counters().snapshot().of(verdict)
    }

    /// Begins to stop.
    pub fn shut(&mut self) {
        drop(self.shutdown.take());
    }

    /// Waits until the door has stopped.
    pub async fn shut_wholly(&mut self) {
        self.shut();
        self.served.take().expect("it serves").await.expect("no panic");
    }
}

/// Waits for what must happen soon.
pub async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !happened() {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
