// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Attacks on the host through its kernel and its files.
var _ = register(map[string]func(parameters) error{
	"mount-host-disk":            mountHostDisk,
	"read-host-disk":             readHostDisk,
	"open-host-devices":          openHostDevices,
	"make-loop-device":           makeLoopDevice,
	"allow-all-devices":          allowAllDevices,
	"sysrq":                      func(parameters) error { return openForWriting("proc", "sysrq-trigger") },
	"load-kernel-module":         loadKernelModule,
	"kexec":                      func(parameters) error { return call(unix.SYS_KEXEC_LOAD) },
	"write-kernel-sysctl":        func(parameters) error { return writeSame("proc", "sys/kernel/panic_on_oops") },
	"set-core-pattern":           func(parameters) error { return writeSame("proc", "sys/kernel/core_pattern") },
	"find-any-writable-setting":  findWritableSetting,
	"write-sysfs":                func(parameters) error { return writeSame("sysfs", "kernel/mm/ksm/sleep_millisecs") },
	"fake-uevent":                func(parameters) error { return openForWriting("sysfs", "block/loop0/uevent") },
	"mount-debugfs":              func(parameters) error { return mountNew("debugfs") },
	"mount-tracefs":              func(parameters) error { return mountNew("tracefs") },
	"cgroup-release-agent":       releaseAgent,
	"leave-the-cgroup":           leaveTheCgroup,
	"raise-memory-limit":         func(parameters) error { return raise("memory", "memory.limit_in_bytes", "-1") },
	"raise-cpu-limit":            func(parameters) error { return raise("cpu", "cpu.cfs_quota_us", "-1") },
	"raise-process-limit":        func(parameters) error { return raise("pids", "pids.max", "max") },
	"raise-disk-traffic-limit":   raiseDiskTrafficLimit,
	"open-file-by-handle":        openFileByHandle,
	"kill-neighbours-process":    func(p parameters) error { return signalNeighbour(p, unix.SIGSTOP) },
	"trace-neighbours-process":   traceNeighbour,
	"become-neighbours-root":     becomeNeighboursRoot,
	"map-ids-of-the-host":        mapIDsOfTheHost,
	"enter-mount-namespace":      func(p parameters) error { return enterNamespace(p, "mnt", unix.CLONE_NEWNS) },
	"enter-network-namespace":    func(p parameters) error { return enterNamespace(p, "net", unix.CLONE_NEWNET) },
	"connect-to-abstract-socket": connectToAbstractSocket,
	"kernel-keyring":             kernelKeyring,
	"read-kernel-log":            readKernelLog,
	"read-kernel-addresses":      readKernelAddresses,
	"set-clock":                  setClock,
	"reboot":                     reboot,
	"swapoff":                    swapOff,
	"load-bpf":                   loadBPF,
	"perf-events":                perfEvents,
	"userfaultfd":                func(parameters) error { return call(unix.SYS_USERFAULTFD, 0) },
	"io-uring":                   ioUring,
	"realtime-priority":          realtimePriority,
	"priority-over-neighbours":   func(parameters) error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -20) },
})

// call makes a system call of up to three numbers.
func call(number uintptr, arguments ...uintptr) error {
	arguments = append(arguments, 0, 0, 0)
	if _, _, err := unix.Syscall(number, arguments[0], arguments[1], arguments[2]); err != 0 {
		return err
	}
	return nil
}

// directory returns a new one where something can be mounted, taken away by
// the kernel with the mount namespace or by whoever removes the container.
func directory() (string, error) {
	_ = os.Mkdir("/tmp", 0o777) // an image need not have one
	return os.MkdirTemp("/tmp", "attack")
}

// mountNew mounts a file system that needs no source.
func mountNew(fstype string) error {
	_, err := fresh(fstype)
	return err
}

func fresh(fstype string) (string, error) {
	dir, err := directory()
	if err != nil {
		return "", err
	}
	if err := unix.Mount(fstype, dir, fstype, 0, ""); err != nil {
		return "", fmt.Errorf("mount %s: %w", fstype, err)
	}
	return dir, nil
}

// places returns the path where the file system is mounted, those where a
// container sees the node's, and one mounted now, which has no read-only parts.
func places(fstype, path string) []string {
	where := map[string]string{"proc": "/proc", "sysfs": "/sys"}[fstype]
	found := []string{filepath.Join(where, path), filepath.Join("/host", where, path)}
	_ = unix.Mount("", where, "", unix.MS_REMOUNT|unix.MS_BIND, "")
	_ = unix.Mount("", filepath.Dir(found[0]), "", unix.MS_REMOUNT|unix.MS_BIND, "")
	if dir, err := fresh(fstype); err == nil {
		found = append(found, filepath.Join(dir, path))
	}
	return found
}

// openForWriting opens the file at any of its places and writes nothing.
func openForWriting(fstype, path string) error {
	var faults []error
	for _, place := range places(fstype, path) {
		f, err := os.OpenFile(place, os.O_WRONLY, 0)
		if err == nil {
			return f.Close()
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// writeSame writes to the file what it has.
func writeSame(fstype, path string) error {
	var faults []error
	for _, place := range places(fstype, path) {
		content, err := os.ReadFile(place)
		if err == nil {
			var f *os.File
			if f, err = os.OpenFile(place, os.O_WRONLY, 0); err == nil {
				_, err = f.Write(content)
				err = errors.Join(err, f.Close())
			}
		}
		if err == nil {
			return nil
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// ownSettings are those that the kernel keeps for each namespace, which are
// the node's own. Everybody may open the files of pressure, to be woken.
var ownSettings = regexp.MustCompile(`^/(sys/(net|user)/|sys/kernel/(hostname|domainname|ns_last_pid|pid_max|msg|sem$|sem_next_id$|shm|auto_msgmni$)|sys/fs/mqueue/|fs/cgroup/|devices/virtual/net/|class/net/|net/|pressure/|self|thread-self|[0-9]+/|fs/fuse/)`)

// findWritableSetting opens each file of the kernel's for writing.
func findWritableSetting(parameters) error {
	var found []string
	for _, fstype := range []string{"proc", "sysfs"} {
		if all := places(fstype, ""); len(all) > 0 {
			root := all[len(all)-1] // the one mounted now, if that was allowed
			if len(all) == 2 {
				root = all[0]
			}
			_ = filepath.WalkDir(root, func(file string, entry os.DirEntry, err error) error {
				name := strings.TrimPrefix(file, filepath.Clean(root))
				switch {
				case err != nil:
					return nil
				case ownSettings.MatchString(name):
					if entry.IsDir() {
						return filepath.SkipDir
					}
					return nil
				case entry.Type().IsRegular():
					f, err := os.OpenFile(file, os.O_WRONLY|unix.O_NONBLOCK, 0)
					if err != nil {
						return nil
					}
					// Docker covers some with /dev/null.
					if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
						found = append(found, file)
					}
					_ = f.Close()
				}
				return nil
			})
		}
	}
	if len(found) == 0 {
		return errors.New("there is none")
	}
	fmt.Println(strings.Join(found[:min(len(found), 100)], " "))
	return nil
}

// hostDisk makes a device file for the host's disk, wherever that works.
func hostDisk(p parameters) (string, error) {
	_ = allowAllDevices(p)
	major, minor, _ := strings.Cut(p["disk"], ":")
	ma, _ := strconv.Atoi(major)
	mi, _ := strconv.Atoi(minor)
	var faults []error
	_ = os.Mkdir("/tmp", 0o777)
	for _, dir := range []string{"/dev", "/tmp", "/var/lib/docker", "/host/var/lib/docker", "/dev/shm"} {
		file := filepath.Join(dir, "attack-disk")
		_ = os.Remove(file)
		err := unix.Mknod(file, unix.S_IFBLK|0o600, int(unix.Mkdev(uint32(ma), uint32(mi))))
		if err == nil {
			var f *os.File
			if f, err = os.Open(file); err == nil {
				return file, f.Close()
			}
		}
		faults = append(faults, fmt.Errorf("%s: %w", file, err))
	}
	return "", errors.Join(faults...)
}

func mountHostDisk(p parameters) error {
	disk, err := hostDisk(p)
	if err != nil {
		return err
	}
	dir, err := directory()
	if err != nil {
		return err
	}
	if err := unix.Mount(disk, dir, "ext4", unix.MS_RDONLY|unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	_, err = os.ReadFile(filepath.Join(dir, "secret"))
	return err
}

func readHostDisk(p parameters) error {
	disk, err := hostDisk(p)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(disk)
	if err == nil && !bytes.Contains(content, []byte(p["secret"])) {
		err = errors.New("the secret is not on the disk")
	}
	return err
}

// openHostDevices opens what a host's /dev may have. Nothing with a watchdog.
func openHostDevices(p parameters) error {
	_ = allowAllDevices(p)
	var faults []error
	for _, name := range []string{"loop-control", "loop0", "vda", "sda", "nvme0n1", "mem", "port", "kmsg", "kvm", "mapper/control", "snapshot", "btrfs-control", "vhost-net"} {
		f, err := os.Open("/dev/" + name)
		if err == nil {
			return f.Close()
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

func makeLoopDevice(p parameters) error {
	_ = allowAllDevices(p)
	const control, getFree = "/dev/attack-loop", 0x4C82
	if err := unix.Mknod(control, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 237))); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("mknod: %w", err)
	}
	f, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = unix.IoctlRetInt(int(f.Fd()), getFree)
	return err
}

func loadKernelModule(parameters) error {
	garbage := []byte("not a module\x00")
	_, _, err := unix.Syscall(unix.SYS_INIT_MODULE, uintptr(unsafe.Pointer(&garbage[0])), uintptr(len(garbage)), uintptr(unsafe.Pointer(&garbage[12])))
	if errors.Is(err, unix.ENOEXEC) {
		return nil // it would have taken a real one
	}
	return err
}

// hierarchy mounts a cgroup hierarchy and returns the directory of the
// caller's group, as far up as it is seen.
func hierarchy(controller string) (root, own string, err error) {
	if root, err = directory(); err != nil {
		return "", "", err
	}
	if err := unix.Mount("cgroup", root, "cgroup", 0, controller); err != nil {
		return "", "", fmt.Errorf("mount cgroup %s: %w", controller, err)
	}
	membership, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(membership)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 && strings.Contains(","+strings.TrimPrefix(parts[1], "name=")+",", ","+controller+",") {
			// The limits of a node are those of the topmost group that it sees.
			top := strings.Split(strings.Trim(parts[2], "/"), "/")[0]
			if _, err := os.Stat(filepath.Join(root, top, "cgroup.procs")); err == nil && !strings.HasPrefix(top, "docker") {
				return root, filepath.Join(root, top), nil
			}
		}
	}
	return root, root, nil
}

// raise writes to a file of the node's own group.
func raise(controller, file, value string) error {
	_, own, err := hierarchy(controller)
	if err != nil {
		own = "/sys/fs/cgroup/" + controller // as it is mounted already
	}
	return errors.Join(err, os.WriteFile(filepath.Join(own, file), []byte(value), 0))
}

func raiseDiskTrafficLimit(p parameters) error {
	return raise("blkio", "blkio.throttle.write_bps_device", p["disk"]+" 0")
}

func allowAllDevices(parameters) error { return raise("devices", "devices.allow", "a") }

// releaseAgent asks the kernel to run a program of the attacker's as root of
// the host when a cgroup becomes empty.
func releaseAgent(parameters) error {
	var faults []error
	for _, options := range []string{"none,name=attack", "memory", "pids", "cpu", "name=systemd"} {
		dir, err := directory()
		if err == nil {
			err = unix.Mount("cgroup", dir, "cgroup", 0, options)
		}
		if err == nil {
			agent := filepath.Join(dir, "release_agent")
			var before []byte
			if before, err = os.ReadFile(agent); err == nil {
				err = os.WriteFile(agent, bytes.TrimSpace(append(before, '\n')), 0)
			}
			_ = unix.Unmount(dir, 0)
		}
		if err == nil {
			return nil
		}
		faults = append(faults, fmt.Errorf("%s: %w", options, err))
	}
	return errors.Join(faults...)
}

// leaveTheCgroup moves this process to the topmost group of the host, where
// no limit is.
func leaveTheCgroup(parameters) error {
	root, _, err := hierarchy("memory")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "cgroup.procs"), []byte("0"), 0); err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(root, "release_agent")) // only the topmost group has it
	return err
}

// openFileByHandle opens the topmost directory of a file system of which only
// a part can be seen.
func openFileByHandle(parameters) error {
	handle := unix.NewFileHandle(1, []byte{2, 0, 0, 0, 0, 0, 0, 0}) // inode 2, of any generation
	var faults []error
	for _, seen := range []string{"/", "/var/lib/docker", "/host/var/lib/docker", "/etc/hosts"} {
		fd, err := unix.Open(seen, unix.O_RDONLY, 0)
		if err == nil {
			var top int
			if top, err = unix.OpenByHandleAt(fd, handle, unix.O_RDONLY|unix.O_DIRECTORY); err == nil {
				return unix.Close(top)
			}
		}
		faults = append(faults, fmt.Errorf("%s: %w", seen, err))
	}
	return errors.Join(faults...)
}

// neighbour finds the process of the neighbour's by a word of its arguments.
func neighbour(p parameters) (int, error) {
	for _, proc := range []string{"/proc", "/host/proc"} {
		files, _ := filepath.Glob(proc + "/[0-9]*/cmdline")
		for _, file := range files {
			line, err := os.ReadFile(file)
			arguments := strings.Split(string(line), "\x00")
			if err == nil && arguments[0] == p["victim"] {
				return strconv.Atoi(filepath.Base(filepath.Dir(file)))
			}
		}
	}
	return 0, errors.New("the neighbour's process cannot be seen")
}

func signalNeighbour(p parameters, signal unix.Signal) error {
	pid, err := neighbour(p)
	if err != nil {
		return err
	}
	return errors.Join(unix.Kill(pid, signal), unix.Kill(pid, unix.SIGCONT))
}

func traceNeighbour(p parameters) error {
	runtime.LockOSThread()
	pid, err := neighbour(p)
	if err != nil {
		return err
	}
	if err := unix.PtraceSeize(pid); err != nil {
		return err
	}
	return nil // tracing ends with this process
}

// becomeNeighboursRoot takes the user id that is the neighbour's root.
func becomeNeighboursRoot(p parameters) error {
	runtime.LockOSThread()
	if err := call(unix.SYS_SETRESUID, uintptr(p.number("neighbour-id")), uintptr(p.number("neighbour-id")), uintptr(p.number("neighbour-id"))); err != nil {
		return err
	}
	_, err := os.ReadFile(p["neighbour-file"])
	return err
}

// mapIDsOfTheHost makes a user namespace with ids that are not the node's.
func mapIDsOfTheHost(p parameters) error {
	command := exec.Command("/proc/self/exe", "priority-over-neighbours")
	id := []syscall.SysProcIDMap{{ContainerID: 0, HostID: p.number("neighbour-id"), Size: 1}}
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: id, GidMappings: id}
	if err := command.Start(); err != nil {
		return err
	}
	_ = command.Wait()
	return nil
}

// enterNamespace joins the host's namespace, of which the attacker knows the
// number, by any process that it sees.
func enterNamespace(p parameters, kind string, flag int) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	files, _ := filepath.Glob("/proc/[0-9]*/ns/" + kind)
	for _, file := range files {
		if link, err := os.Readlink(file); err != nil || link != p["host-"+kind] {
			continue
		}
		fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Setns(fd, flag)
	}
	return fmt.Errorf("none of %d processes is in %s", len(files), p["host-"+kind])
}

func connectToAbstractSocket(p parameters) error {
	conn, err := net.Dial("unix", "@"+p["abstract"])
	if err != nil {
		return err
	}
	return conn.Close()
}

func kernelKeyring(parameters) error {
	_, err := unix.AddKey("user", "attack", []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
	return err
}

func readKernelLog(parameters) error {
	_, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 4096))
	return err
}

func readKernelAddresses(parameters) error {
	symbols, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(symbols)) {
		if address := strings.Fields(line)[0]; strings.Trim(address, "0") != "" {
			return nil
		}
	}
	return errors.New("all addresses are hidden")
}

// setClock sets the clock to what it shows.
func setClock(parameters) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return err
	}
	if _, _, err := unix.Syscall(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(&now)), 0); err != 0 {
		return err
	}
	return nil
}

// reboot asks for what reboot(2) does without any harm: what the keys
// Ctrl-Alt-Del mean. Within a process namespace that has no meaning.
func reboot(parameters) error {
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF)
	if errors.Is(err, unix.EINVAL) {
		return nil // allowed, and then not known here
	}
	return err
}

// swapOff ends the use of a swap file that is not there.
func swapOff(parameters) error {
	path := []byte("/no/such/file\x00")
	_, _, err := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(&path[0])), 0, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil // allowed, had it been there
	}
	return err
}

// loadBPF makes a map, the least that bpf(2) does.
func loadBPF(parameters) error {
	const mapCreate = 0
	attributes := struct{ kind, key, value, entries, flags uint32 }{2, 4, 4, 1, 0}
	_, _, err := unix.Syscall(unix.SYS_BPF, mapCreate, uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes))
	if err != 0 {
		return err
	}
	return nil
}

// perfEvents counts the time of a CPU, whoever uses it.
func perfEvents(parameters) error {
	attributes := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
	_, err := unix.PerfEventOpen(&attributes, -1, 0, -1, 0)
	return err
}

func ioUring(parameters) error {
	var setup [120]byte
	_, _, err := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&setup)), 0)
	if err != 0 {
		return err
	}
	return nil
}

// realtimePriority runs before all that have none, wherever they are.
func realtimePriority(parameters) error {
	runtime.LockOSThread()
	if root, _, err := hierarchy("cpu"); err == nil { // a group may have no time for it
		_ = os.WriteFile(filepath.Join(root, "tasks"), []byte("0"), 0)
	}
	priority := int32(1)
	const fifo = 1
	_, _, err := unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, 0, fifo, uintptr(unsafe.Pointer(&priority)))
	if err != 0 {
		return err
	}
	return nil
}
