//! The books of a turn: wallets opened once, transfers collected, and at the end covered, compared and written.
//!
//! Every transfer of a turn is compared with what it did to the wallets; a difference stops the turn (invariant 8).
//! Leaves to others: what is posted (`journal`, `grant`, `cash` …), what totals mean (`rights`).

use super::{CoreError, Hub, TableRow, Turn, named};
use crate::ledger::{Account, Kind, Posting};
use crate::rights::{PersonWallets, Replica, Wallet, is_money};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::Fen;
use yika_crdt::entry::WalletKey;
use yika_crdt::feed;
use yika_crdt::fen::FenError;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::proof;
use yika_crdt::store::{Read, StoreError, decode_row};

/// Prefix of the pools of boxes.
const POOLS: &[u8] = b"!pool";
/// Rows read at once where all are.
const ROWS_READ_MAX: usize = 1_024;

/// Whose wallets: a person's, or the pools of a box.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Owner {
    /// A holder; person 0 for cards nobody knows.
    Person(PersonId),
    /// A box: guest pool and floats of its terminals.
    Pool(Writer),
}

/// What a turn has opened and posted.
#[derive(Default)]
pub(super) struct Books {
    open: BTreeMap<Owner, (PersonWallets, PersonWallets)>,
    moved: BTreeMap<Account, Fen>,
    saved: Option<Saved>,
}

/// What stood in the books at a savepoint, of whatever was opened or moved since.
#[derive(Default)]
struct Saved {
    /// `None` for wallets that were not open.
    open: Vec<(Owner, Option<PersonWallets>)>,
    moved: Vec<(Account, Option<Fen>)>,
}

impl Books {
    /// Sets the savepoint here.
    pub(super) fn save(&mut self) {
        self.saved = Some(Saved::default());
    }

    /// What was done since the savepoint stays.
    pub(super) fn release(&mut self) {
        self.saved = None;
    }

    /// Takes back what was done since the savepoint.
    pub(super) fn roll_back(&mut self) {
        let Some(saved) = self.saved.take() else { return };
        for (owner, wallets) in saved.open {
            match wallets {
                None => _ = self.open.remove(&owner),
                Some(wallets) => {
                    if let Some((_, now)) = self.open.get_mut(&owner) {
                        *now = wallets;
                    }
                }
            }
        }
        for (account, sum) in saved.moved.into_iter().rev() {
            match sum {
                Some(sum) => _ = self.moved.insert(account, sum),
                None => _ = self.moved.remove(&account),
            }
        }
    }

    /// Whether the wallets opened since the savepoint still come to sums that fit.
    pub(super) fn check_saved(&self) -> Result<(), CoreError> {
        for (owner, _) in self.saved.iter().flat_map(|saved| &saved.open) {
            if let Some((_, wallets)) = self.open.get(owner) {
                wallets.check_sums()?;
            }
        }
        Ok(())
    }

    /// Opens wallets for change, as they are stored where this turn has not opened them yet.
    fn open(
        &mut self,
        owner: Owner,
        stored: impl FnOnce() -> Result<PersonWallets, StoreError>,
    ) -> Result<&mut PersonWallets, StoreError> {
        let was_open = self.open.get(&owner);
        if let Some(saved) = self.saved.as_mut().filter(|saved| saved.open.iter().all(|(open, _)| *open != owner)) {
            saved.open.push((owner, was_open.map(|(_, now)| now.clone())));
        }
        match self.open.entry(owner) {
            Entry::Occupied(open) => Ok(&mut open.into_mut().1),
            Entry::Vacant(vacant) => {
                let before = stored()?;
                Ok(&mut vacant.insert((before.clone(), before)).1)
            }
        }
    }

    fn shift(&mut self, account: Account, amount: Fen) -> Result<(), FenError> {
        if let Some(saved) = &mut self.saved {
            saved.moved.push((account, self.moved.get(&account).copied()));
        }
        add(&mut self.moved, account, amount)
    }

    /// Of what this turn has opened, the lives in whose suspense there is something.
    pub(super) fn suspended(&self) -> Result<BTreeSet<(Owner, Writer)>, FenError> {
        let mut found = BTreeSet::new();
        for (owner, (_, wallets)) in &self.open {
            for replicas in wallets.wallets.values().map(|wallet| &wallet.replicas) {
                for (writer, replica) in replicas.iter().filter(|(_, replica)| replica.suspended) {
                    if replica.right()?.is_positive() {
                        found.insert((*owner, *writer));
                    }
                }
            }
        }
        Ok(found)
    }
}

impl Owner {
    fn key(self) -> Vec<u8> {
        match self {
            Owner::Person(person) => keys::rights(person),
            Owner::Pool(writer) => named(POOLS, &writer),
        }
    }

    /// Person in account names; pools are nobody's.
    fn person(self) -> PersonId {
        match self {
            Owner::Person(person) => person,
            Owner::Pool(_) => PersonId(0),
        }
    }

    /// Where money of this owner waits that no box holds.
    pub(super) fn holder(self, key: WalletKey) -> Account {
        match self {
            Owner::Person(person) => Account::Holder(person, key),
            Owner::Pool(_) => Account::PoolSource,
        }
    }

    /// Who owes what boxes overdrew.
    fn debtor(self) -> Account {
        match self {
            Owner::Person(person) => Account::Receivable(person),
            Owner::Pool(_) => Account::PoolSource,
        }
    }
}

impl Hub {
    /// The wallets of an owner, to change in this turn. Rights of a life that was fenced move to suspense.
    pub(super) fn open<'a, R: Read + ?Sized>(
        &self,
        turn: &'a mut Turn<'_, '_, R>,
        owner: Owner,
    ) -> Result<&'a mut PersonWallets, CoreError> {
        let tx = &*turn.tx;
        let wallets = turn.books.open(owner, || Ok(tx.get(&owner.key())?.unwrap_or_default()))?;
        let mut fenced = Vec::new();
        for (key, wallet) in &mut wallets.wallets {
            for (writer, replica) in wallet.replicas.iter_mut().filter(|(_, r)| !r.suspended) {
                if self.mesh.is_fenced(*writer) {
                    replica.suspended = true;
                    fenced.push((*key, *writer, replica.right()?));
                }
            }
        }
        if !fenced.is_empty() {
            proof::hit("rights_suspended");
            let mut posting = self.posting(turn, "fence")?;
            for (key, writer, right) in fenced.into_iter().filter(|(key, ..)| is_money(*key)) {
                let person = owner.person();
                let (from, to) = (Account::Right(person, key, writer), Account::Suspense(person, key, writer));
                posting.transfer(Kind::Fence, from, to, right);
            }
            turn.post(posting)?;
        }
        match turn.books.open.get_mut(&owner) {
            Some((_, wallets)) => Ok(wallets),
            None => Err(StoreError::Corrupt { place: "the books".into(), cause: "not open".into() }.into()),
        }
    }

    /// A life's part of a wallet. A part that is made for a life fenced before begins in suspense, where all that is
    /// posted to it lies.
    pub(super) fn replica_of<'w>(&self, wallet: &'w mut Wallet, of: Writer) -> &'w mut Replica {
        let suspended = self.mesh.is_fenced(of) && !proof::sown("new_part_of_a_fenced_life_not_suspended");
        wallet.replicas.entry(of).or_insert_with(|| Replica { suspended, ..Replica::default() })
    }

    /// A posting of the hub's own making, under a number of its own.
    pub(super) fn posting<R: Read + ?Sized>(
        &self,
        turn: &mut Turn<'_, '_, R>,
        what: &str,
    ) -> Result<Posting, StoreError> {
        let key = b"!posting".to_vec();
        let number: u64 = turn.tx.get(&key)?.unwrap_or_default();
        turn.tx.put(key, &number.saturating_add(1));
        let source = feed::digest("yika posting 1", &yika_crdt::wire::encode(&(self.mesh.me, what, number)));
        Ok(Posting::new(source, self.today(turn)))
    }

    /// Closes the turn: derived movements are posted, wallets compared with the transfers, then written.
    pub(super) fn close_books<R: Read + ?Sized>(&self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        let open = std::mem::take(&mut turn.books.open);
        let changed = open.into_iter().filter(|(_, (before, now))| before != now).collect::<Vec<_>>();
        if changed.is_empty() {
            return Ok(());
        }
        let mut posting = self.posting(turn, "cover")?;
        let mut difference: BTreeMap<Account, Fen> = BTreeMap::new();
        for (owner, (before, now)) in &changed {
            cover(*owner, before, now, &mut posting)?;
            for (account, balance) in accounts(*owner, now)? {
                add(&mut difference, account, balance)?;
            }
            for (account, balance) in accounts(*owner, before)? {
                add(&mut difference, account, balance.negated()?)?;
            }
            self.check(*owner, now)?;
        }
        turn.post(posting)?;
        for (account, moved) in &turn.books.moved {
            if account.person().is_some() || *account == Account::PoolSource {
                add(&mut difference, *account, moved.negated()?)?;
            }
        }
        if let Some((account, amount)) = difference.iter().find(|(_, amount)| **amount != Fen::ZERO) {
            let person = account.person().unwrap_or(PersonId(0));
            let detail = format!("{account} changed by {amount} more than was transferred");
            return Err(CoreError::Unbalanced { person, detail });
        }
        for (owner, (_, now)) in changed {
            turn.tx.put(owner.key(), &now);
        }
        Ok(())
    }

    fn check(&self, owner: Owner, wallets: &PersonWallets) -> Result<(), CoreError> {
        let person = owner.person();
        for (key, wallet) in wallets.wallets.iter().filter(|(key, _)| is_money(**key)) {
            wallet.check().map_err(|detail| CoreError::Unbalanced { person, detail })?;
            let restored = self.mesh.me.incarnation.generation > 1;
            if matches!(owner, Owner::Person(_)) && wallet.deficit()?.is_positive() && !restored {
                let detail = format!("{key:?}: more was granted than paid in");
                return Err(CoreError::Unbalanced { person, detail });
            }
        }
        Ok(())
    }
}

impl<R: Read + ?Sized> Turn<'_, '_, R> {
    /// Hands transfers to the tables.
    pub(super) fn post(&mut self, posting: Posting) -> Result<(), FenError> {
        for transfer in posting.transfers {
            self.books.shift(transfer.debit, transfer.amount.negated()?)?;
            self.books.shift(transfer.credit, transfer.amount)?;
            self.rows.push(TableRow::Transfer(transfer));
        }
        Ok(())
    }
}

/// A box's account in somebody's wallet.
pub(super) fn right_account(owner: Owner, key: WalletKey, writer: Writer, replica: &Replica) -> Account {
    match replica.suspended {
        true => Account::Suspense(owner.person(), key, writer),
        false => Account::Right(owner.person(), key, writer),
    }
}

/// What derived figures moved: returns, overdrafts, settlements, losses.
fn cover(owner: Owner, before: &PersonWallets, now: &PersonWallets, posting: &mut Posting) -> Result<(), CoreError> {
    let (nothing, no_replica) = (Wallet::default(), Replica::default());
    for (key, wallet) in now.wallets.iter().filter(|(key, _)| is_money(**key)) {
        let old = before.wallets.get(key).unwrap_or(&nothing);
        let (holder, debtor) = (owner.holder(*key), owner.debtor());
        for (writer, replica) in &wallet.replicas {
            let was = old.replicas.get(writer).unwrap_or(&no_replica);
            let right = right_account(owner, *key, *writer, replica);
            posting.shift(Kind::Return, right, holder, replica.came_back()?.sub(was.came_back()?)?);
            posting.shift(Kind::Overdraft, debtor, right, replica.overdrawn()?.sub(was.overdrawn()?)?);
        }
        if matches!(owner, Owner::Person(_)) {
            posting.shift(Kind::Loss, Account::Loss, holder, wallet.deficit()?.sub(old.deficit()?)?);
            posting.shift(Kind::Settle, holder, debtor, wallet.settled()?.sub(old.settled()?)?);
        }
    }
    Ok(())
}

/// The balances of an owner's accounts as the wallets say them.
fn accounts(owner: Owner, wallets: &PersonWallets) -> Result<BTreeMap<Account, Fen>, CoreError> {
    let mut accounts = BTreeMap::new();
    for (key, wallet) in wallets.wallets.iter().filter(|(key, _)| is_money(**key)) {
        for (writer, replica) in &wallet.replicas {
            add(&mut accounts, right_account(owner, *key, *writer, replica), replica.right()?)?;
            if matches!(owner, Owner::Pool(_)) {
                add(&mut accounts, Account::PoolSource, replica.overdrawn()?.negated()?)?;
            }
        }
        match owner {
            Owner::Person(person) => {
                add(&mut accounts, Account::Holder(person, *key), wallet.available()?)?;
                add(&mut accounts, Account::Receivable(person), wallet.owed()?.negated()?)?;
            }
            Owner::Pool(_) => add(&mut accounts, Account::PoolSource, wallet.gross()?)?,
        }
    }
    Ok(accounts)
}

/// The balances of all holders' and pools' accounts as the wallets say them: what the sum of all transfers must be.
pub fn balances<R: Read + ?Sized>(store: &R) -> Result<BTreeMap<Account, Fen>, CoreError> {
    let mut sums = BTreeMap::new();
    for prefix in [keys::RIGHTS, POOLS] {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = store.scan(prefix, after.as_deref(), ROWS_READ_MAX)?;
            for (key, value) in &rows {
                let wallets: PersonWallets = decode_row(key, value)?;
                for (account, balance) in accounts(owner_of(key)?, &wallets)? {
                    add(&mut sums, account, balance)?;
                }
            }
            match rows.into_iter().next_back() {
                Some((key, _)) => after = Some(key),
                None => break,
            }
        }
    }
    Ok(sums)
}

/// Whose wallets a row holds.
fn owner_of(key: &[u8]) -> Result<Owner, StoreError> {
    let owner = match key.strip_prefix(POOLS) {
        Some(rest) => yika_crdt::wire::decode_lenient(rest, rest.len()).ok().map(Owner::Pool),
        None => keys::person_of_rights(key).map(Owner::Person),
    };
    owner.ok_or_else(|| StoreError::Corrupt { place: format!("state row {key:02x?}"), cause: "not an owner".into() })
}

fn add(sums: &mut BTreeMap<Account, Fen>, account: Account, amount: Fen) -> Result<(), FenError> {
    let sum = sums.entry(account).or_default();
    *sum = sum.add(amount)?;
    Ok(())
}
