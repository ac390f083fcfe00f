//! The C side: a SQLite VFS that forwards to the default one and tells `disk` what happened.
//! Shared memory and locks go to the default VFS, so WAL with several connections works.
#![allow(unsafe_code)] // SQLite takes a VFS only as a table of C callbacks over raw pointers.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::ffi;

use crate::disk::Disk;

struct App {
    real: *mut ffi::sqlite3_vfs,
    disk: Arc<Disk>,
}

struct Tracked {
    path: PathBuf,
    disk: Arc<Disk>,
    /// Journal or WAL: SQLite syncs the folder with the first sync of such a file it created.
    journal: bool,
}

/// Our file; the default VFS's file object follows it in the same allocation made by SQLite.
#[repr(C)]
struct PowerFile {
    base: ffi::sqlite3_file,
    /// Null for temporary files, which a power cut takes anyway.
    tracked: *mut Tracked,
}

const JOURNALS: c_int = ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL | ffi::SQLITE_OPEN_WAL;
const IO_POWERSAFE: c_int = ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE;

pub(crate) fn register(name: &str, disk: &Arc<Disk>) -> io::Result<()> {
    let c_name = CString::new(name).map_err(|_| io::Error::other("power cut: VFS name holds a NUL"))?;
    // SAFETY: plain C calls with valid pointers; the table, its name and its data are leaked on purpose
    // because SQLite keeps them until the process ends.
    unsafe {
        ffi::sqlite3_initialize();
        if !ffi::sqlite3_vfs_find(c_name.as_ptr()).is_null() {
            return Err(io::Error::other(format!("power cut: VFS name {name} is taken; choose another")));
        }
        let real = ffi::sqlite3_vfs_find(std::ptr::null());
        if real.is_null() {
            return Err(io::Error::other("power cut: SQLite has no default VFS"));
        }
        let mut table = *real;
        table.iVersion = table.iVersion.min(2);
        table.szOsFile = (*real).szOsFile + size_of::<PowerFile>() as c_int;
        table.pNext = std::ptr::null_mut();
        table.zName = c_name.into_raw();
        table.pAppData = Box::into_raw(Box::new(App { real, disk: Arc::clone(disk) })).cast();
        table.xOpen = Some(open);
        table.xDelete = Some(delete);
        table.xAccess = Some(access);
        table.xFullPathname = Some(full_pathname);
        // The other entries of the unix VFS do not read their first argument.
        let rc = ffi::sqlite3_vfs_register(Box::into_raw(Box::new(table)), 0);
        if rc != ffi::SQLITE_OK {
            return Err(io::Error::other(format!("power cut: sqlite3_vfs_register failed with code {rc}")));
        }
    }
    Ok(())
}

unsafe fn app<'a>(vfs: *mut ffi::sqlite3_vfs) -> &'a App {
    // SAFETY: only our table is passed here, and its data is a leaked `App`.
    unsafe { &*(*vfs).pAppData.cast::<App>() }
}

unsafe fn path_of(name: *const c_char) -> PathBuf {
    // SAFETY: SQLite passes NUL-terminated names.
    PathBuf::from(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()))
}

unsafe fn real_file(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: the allocation is `szOsFile` bytes: ours, then the default VFS's.
    unsafe { file.cast::<PowerFile>().add(1).cast() }
}

unsafe fn tracked<'a>(file: *mut ffi::sqlite3_file) -> Option<&'a Tracked> {
    // SAFETY: null or a box owned by this file until `close`.
    unsafe { (*file.cast::<PowerFile>()).tracked.as_ref() }
}

/// Calls a method of the default VFS's file; a missing method is an I/O error.
macro_rules! forward {
    ($file:expr, $method:ident $(, $arg:expr)*) => {{
        // SAFETY: the file was opened by the default VFS, so its table is valid.
        unsafe {
            let real = real_file($file);
            match (*(*real).pMethods).$method {
                Some(call) => call(real $(, $arg)*),
                None => ffi::SQLITE_IOERR,
            }
        }
    }};
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes our table, a file of `szOsFile` bytes and a name or null.
    unsafe {
        let app = app(vfs);
        (*file).pMethods = std::ptr::null();
        (*file.cast::<PowerFile>()).tracked = std::ptr::null_mut();
        let Some(real_open) = (*app.real).xOpen else {
            return ffi::SQLITE_CANTOPEN;
        };
        let rc = real_open(app.real, name, real_file(file), flags, out_flags);
        if rc != ffi::SQLITE_OK {
            return rc;
        }
        if !name.is_null() && flags & ffi::SQLITE_OPEN_DELETEONCLOSE == 0 {
            let path = path_of(name);
            // A file just made is empty, as one that the disk has not met.
            app.disk.open(&path, || std::fs::read(&path).ok());
            (*file.cast::<PowerFile>()).tracked =
                Box::into_raw(Box::new(Tracked { path, disk: Arc::clone(&app.disk), journal: flags & JOURNALS != 0 }));
        }
        (*file).pMethods = &raw const METHODS;
        ffi::SQLITE_OK
    }
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync_dir: c_int) -> c_int {
    // SAFETY: SQLite passes our table and a valid name.
    unsafe {
        let app = app(vfs);
        let Some(call) = (*app.real).xDelete else {
            return ffi::SQLITE_IOERR_DELETE;
        };
        app.disk
            .delete(&path_of(name), sync_dir != 0, || call(app.real, name, sync_dir))
            .unwrap_or(ffi::SQLITE_IOERR_DELETE)
    }
}

unsafe extern "C" fn access(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, flags: c_int, out: *mut c_int) -> c_int {
    // SAFETY: arguments are passed through unchanged.
    unsafe {
        let real = app(vfs).real;
        (*real).xAccess.map_or(ffi::SQLITE_IOERR_ACCESS, |call| call(real, name, flags, out))
    }
}

unsafe extern "C" fn full_pathname(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    n: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: arguments are passed through unchanged.
    unsafe {
        let real = app(vfs).real;
        (*real).xFullPathname.map_or(ffi::SQLITE_CANTOPEN, |call| call(real, name, n, out))
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let rc = forward!(file, xClose);
    // SAFETY: the box was made by `open` and is freed once.
    unsafe {
        let own = file.cast::<PowerFile>();
        if !(*own).tracked.is_null() {
            drop(Box::from_raw((*own).tracked));
            (*own).tracked = std::ptr::null_mut();
        }
    }
    rc
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, to: *mut c_void, n: c_int, offset: i64) -> c_int {
    // SAFETY: see `tracked`.
    match unsafe { tracked(file) }.map_or(Ok(()), |t| t.disk.read()) {
        Ok(()) => forward!(file, xRead, to, n, offset),
        Err(_) => ffi::SQLITE_IOERR_READ,
    }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, n: c_int, offset: i64) -> c_int {
    // SAFETY: SQLite passes `n` readable bytes.
    let (tracked, bytes) =
        unsafe { (tracked(file), std::slice::from_raw_parts(from.cast::<u8>(), usize::try_from(n).unwrap_or(0))) };
    let real = || forward!(file, xWrite, from, n, offset);
    match tracked {
        None => real(),
        Some(t) => {
            t.disk.write(&t.path, usize::try_from(offset).unwrap_or(0), bytes, real).unwrap_or(ffi::SQLITE_IOERR_WRITE)
        }
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    let real = || forward!(file, xTruncate, size);
    // SAFETY: see `tracked`.
    match unsafe { tracked(file) } {
        None => real(),
        Some(t) => {
            t.disk.truncate(&t.path, usize::try_from(size).unwrap_or(0), real).unwrap_or(ffi::SQLITE_IOERR_TRUNCATE)
        }
    }
}

/// The disk is the model's, so a sync costs nothing on the real one.
unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: see `tracked`.
    match unsafe { tracked(file) } {
        None => ffi::SQLITE_OK,
        Some(t) => t.disk.sync(&t.path, t.journal).map_or(ffi::SQLITE_IOERR_FSYNC, |()| ffi::SQLITE_OK),
    }
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, out: *mut i64) -> c_int {
    forward!(file, xFileSize, out)
}
unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    forward!(file, xLock, level)
}
unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    forward!(file, xUnlock, level)
}
unsafe extern "C" fn check_reserved(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    forward!(file, xCheckReservedLock, out)
}
unsafe extern "C" fn file_control(file: *mut ffi::sqlite3_file, op: c_int, arg: *mut c_void) -> c_int {
    forward!(file, xFileControl, op, arg)
}
unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    forward!(file, xSectorSize)
}
/// Only what the model grants: bytes outside a write are never harmed. No atomic batches.
unsafe extern "C" fn characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    IO_POWERSAFE
}
unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    page: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    forward!(file, xShmMap, page, size, extend, out)
}
unsafe extern "C" fn shm_lock(file: *mut ffi::sqlite3_file, offset: c_int, n: c_int, flags: c_int) -> c_int {
    forward!(file, xShmLock, offset, n, flags)
}
unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    // SAFETY: as in `forward!`; a missing barrier has nothing to order.
    unsafe {
        let real = real_file(file);
        if let Some(call) = (*(*real).pMethods).xShmBarrier {
            call(real);
        }
    }
}
unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    forward!(file, xShmUnmap, delete)
}

/// Version 2: with shared memory, without memory-mapped reads, which would pass the model by.
static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
