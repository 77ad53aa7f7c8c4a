//! What each failure leaves on the disk.

use super::*;

fn log(disk: &FaultDisk, dir: &tempfile::TempDir) -> (PathBuf, Box<dyn AppendFile>) {
    let path = dir.path().join("log");
    let file = disk.append_open(&path, 0o600).unwrap();
    (path, file)
}

#[test]
fn each_way_to_fail_leaves_on_the_disk_what_it_says() {
    for (how, stored, dead) in [
        (How::NotStored, "", false),
        (How::Stored, "abcdef", false),
        (How::DiskFull, "", false),
        (How::Torn(2), "ab", false),
        (How::DiesBefore, "", true),
        (How::DiesAfter, "abcdef", true),
    ] {
        let (dir, disk) = (tempfile::tempdir().unwrap(), FaultDisk::default());
        let (path, mut file) = log(&disk, &dir);
        disk.plan(Fault::next(Operation::Append, how).on("log"));
        let error = file.append(b"abcdef").unwrap_err();
        assert_eq!(error.kind() == io::ErrorKind::StorageFull, how == How::DiskFull, "{how:?}");
        assert_eq!(RealDisk.read(&path).unwrap(), stored.as_bytes(), "{how:?}");
        assert_eq!(disk.is_dead(), dead, "{how:?}");
        assert_eq!(file.append(b"!").is_err(), dead, "{how:?}: only the dead stay silent");
    }
}

#[test]
fn an_operation_that_waits_is_done_once_the_disk_is_healed_and_others_do_not_wait_for_it() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FaultDisk::default());
    disk.plan(Fault::next(Operation::Replace, How::Waits).on("slow"));
    let (slow, beside) = (dir.path().join("slow"), dir.path().join("beside"));
    let waits = std::thread::spawn({
        let (disk, slow) = (disk.clone(), slow.clone());
        move || disk.replace(&slow, b"x", 0o600)
    });
    while disk.count(Operation::Replace, "slow") == 0 {
        std::thread::yield_now();
    }
    disk.replace(&beside, b"x", 0o600).unwrap();
    assert!(!slow.exists());
    disk.heal();
    waits.join().unwrap().unwrap();
    assert!(slow.exists());
}

#[test]
fn only_the_planned_operations_on_the_planned_path_fail() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FaultDisk::default());
    disk.plan(Fault::next(Operation::Replace, How::NotStored).on("key").after(1).times(2));
    let write = |name: &str| disk.replace(&dir.path().join(name), b"x", 0o600).is_ok();
    let seen =
        [write("other"), write("key"), write("key"), write("other"), write("key"), write("key")];
    assert_eq!(seen, [true, true, false, true, false, true]);
    assert_eq!(disk.count(Operation::Replace, "key"), 4);
    disk.plan(Fault::next_change(How::NotStored));
    disk.read(&dir.path().join("key")).expect("a read changes nothing");
    disk.heal();
    assert!(write("key"));
}

#[test]
fn a_power_cut_takes_what_was_not_synced_and_a_kill_does_not() {
    for (cut, left) in [(true, "synced"), (false, "synced, not synced")] {
        let (dir, disk) = (tempfile::tempdir().unwrap(), FaultDisk::default());
        let (path, mut file) = log(&disk, &dir);
        file.append(b"synced").unwrap();
        file.sync().unwrap();
        file.append(b", not synced").unwrap();
        let moved = dir.path().join("moved");
        disk.rename(&path, &moved).unwrap();
        if cut {
            disk.power_cut().unwrap()
        } else {
            disk.kill()
        }
        assert!(file.sync().is_err() && disk.read(&moved).is_err());
        assert_eq!(RealDisk.read(&moved).unwrap(), left.as_bytes());
    }
}

#[test]
fn a_power_cut_leaves_reserved_zeros_as_they_were_synced_and_any_of_the_sectors_written_since() {
    let sector = usize::try_from(SECTOR).unwrap();
    for (keeps, reserved) in [
        ([false, false], true),
        ([true, false], true),
        ([false, true], true),
        ([false, true], false),
    ] {
        let (dir, disk) = (tempfile::tempdir().unwrap(), FaultDisk::default());
        let (path, mut file) = log(&disk, &dir);
        file.append(b"synced").unwrap();
        if reserved {
            file.reserve(4 * SECTOR).unwrap();
        }
        file.sync().unwrap();
        file.append(&[7; 700]).unwrap();
        disk.power_cut_that_keeps(|number| {
            keeps.get(usize::try_from(number).unwrap()) == Some(&true)
        })
        .unwrap();
        let read = RealDisk.read(&path).unwrap();
        assert_eq!(read.len(), if reserved { 6 + 4 * sector } else { 706 });
        assert_eq!(&read[..6], b"synced");
        for (range, kept) in
            [(6..sector, keeps[0]), (sector..706, keeps[1]), (706..read.len(), false)]
        {
            assert!(
                read[range.clone()].iter().all(|byte| *byte == if kept { 7 } else { 0 }),
                "{range:?}"
            );
        }
    }
}

#[test]
fn a_power_cut_brings_back_reserved_zeros_that_were_cut_off_and_takes_those_that_were_not_synced() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FaultDisk::default());
    let (path, mut file) = log(&disk, &dir);
    file.append(b"synced").unwrap();
    file.reserve(100).unwrap();
    file.sync().unwrap();
    file.truncate(6).unwrap();
    disk.power_cut().unwrap();
    assert_eq!(RealDisk.read(&path).unwrap().len(), 106);
    let disk = FaultDisk::default();
    let mut file = disk.append_open(&path, 0o600).unwrap();
    file.reserve(100).unwrap();
    disk.power_cut().unwrap();
    assert_eq!(RealDisk.read(&path).unwrap().len(), 106);
}

#[test]
fn reserving_is_an_operation_of_its_own() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FaultDisk::default());
    let (path, mut file) = log(&disk, &dir);
    disk.plan(Fault::next(Operation::Reserve, How::DiskFull));
    assert_eq!(file.reserve(100).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.append(b"x").unwrap();
    assert_eq!((file.len(), RealDisk.read(&path).unwrap().len()), (1, 1));
    file.reserve(100).unwrap();
    assert_eq!((file.len(), RealDisk.read(&path).unwrap().len()), (1, 101));
    assert_eq!(disk.count(Operation::Reserve, "log"), 2);
}
