// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/keelson/keelson/conductor"
	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/ironic"
	"github.com/keelson/keelson/templates/hostconfig"
)

// clientPKI writes this process's certificate for hosts, which libvirt's client
// reads from files, and returns their directory. It goes when the process ends.
func (p *process) clientPKI(ctx context.Context) (string, error) {
	dir := filepath.Join(p.cfg.StatePath, "pki-"+strconv.Itoa(os.Getpid()))
	if err := removeDeadKeys(p.cfg.StatePath); err != nil {
		p.log.Warn("could not remove the keys of processes that were killed", "error", err)
	}
	if err := p.certificates.Hosts().WriteClient(ctx, dir); err != nil {
		return "", err
	}
	// While the lock is held the keys are in use: it ends with the process,
	// however that ends.
	held, err := os.Open(dir)
	if err == nil {
		err = unix.Flock(int(held.Fd()), unix.LOCK_SH)
	}
	if err != nil {
		return "", fmt.Errorf("locking %s: %w", dir, err)
	}
	p.onClose(func() error { return errors.Join(os.RemoveAll(dir), held.Close()) })
	return dir, nil
}

// removeDeadKeys removes what conductors that were killed have left. Young
// directories may not be locked yet.
func removeDeadKeys(statePath string) error {
	dirs, err := filepath.Glob(filepath.Join(statePath, "pki-*"))
	for _, dir := range dirs {
		d, e := os.Open(dir)
		if e != nil {
			continue // removed meanwhile
		}
		if info, e := d.Stat(); e == nil && time.Since(info.ModTime()) > time.Minute &&
			unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
		_ = d.Close()
	}
	return err
}

// configDrive is what a host reads at its first boot.
func (p *process) configDrive(ctx context.Context, host *model.Host, machine *conductor.Machine) (ironic.ConfigDrive, error) {
	userData, err := hostUserData(ctx, p.cfg, p.certificates.Hosts(), host.Name, host.Bridge, machine.Address, machine.LibvirtURI)
	if err != nil {
		return ironic.ConfigDrive{}, fmt.Errorf("config drive of host %s: %w", host.Name, err)
	}
	return ironic.ConfigDrive{
		MetaData: map[string]any{"uuid": host.UUID, "name": host.Name, "hostname": host.Name},
		UserData: string(userData),
	}, nil
}

// hostUserData renders the preparation of a host, with a certificate made for
// it if its libvirt is to be reached by TLS.
func hostUserData(ctx context.Context, cfg *config.Config, authority *ca.Hosts, name, bridge, address, libvirtURI string) ([]byte, error) {
	h := hostconfig.Host{
		Name: name, Bridge: bridge, Uplink: cfg.Network.Uplink, Storage: cfg.Hosts.StorageDevice,
		Firewall: hostconfig.Firewall{Conductors: cfg.Hosts.ConductorNetworks, SSH: cfg.Hosts.SSHNetworks},
	}
	for _, n := range cfg.Network.Networks {
		h.Firewall.Nodes = append(h.Firewall.Nodes, n.Prefix)
		if h.Uplink == "" {
			h.BridgeCIDR = append(h.BridgeCIDR, netip.PrefixFrom(n.Gateway, n.Prefix.Bits()))
		}
	}
	for _, a := range cfg.Images.Archives {
		h.Images = append(h.Images, hostconfig.Image{Name: a.NodeImage, SHA256: a.SHA256, URL: a.URL})
	}
	if strings.HasPrefix(libvirtURI, "lxc+tls://") {
		uri, err := url.Parse(libvirtURI)
		if err != nil {
			return nil, fmt.Errorf("libvirt URI: %w", err)
		}
		names := []string{uri.Hostname()}
		if address != "" && address != uri.Hostname() {
			names = append(names, address)
		}
		var tls hostconfig.TLS
		if tls.Authority, err = authority.Authority(ctx); err != nil {
			return nil, err
		}
		if tls.Certificate, tls.Key, err = authority.Server(ctx, name, names...); err != nil {
			return nil, err
		}
		h.TLS = &tls
	}
	return hostconfig.Render(h)
}

func hostUserDataCommand(load loader) *cobra.Command {
	return &cobra.Command{
		Use:   "user-data NAME",
		Short: "Print the cloud-config that prepares a registered machine; it holds a new private key of that machine",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(load, func(cmd *cobra.Command, s *store.Store, cfg *config.Config) error {
				return printUserData(cmd, s, cfg, args[0])
			})(cmd, args)
		},
	}
}

func printUserData(cmd *cobra.Command, s *store.Store, cfg *config.Config, name string) error {
	hosts, err := s.Hosts(cmd.Context())
	if err != nil {
		return err
	}
	sealer, err := ca.LoadKeyFile(cfg.X509.MasterKeyFile)
	if err != nil {
		return fmt.Errorf("[x509] master_key_file: %w", err)
	}
	certificates, err := newCA(cfg, s, sealer)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if h.Name != name {
			continue
		}
		userData, err := hostUserData(cmd.Context(), cfg, certificates.Hosts(), h.Name, h.Bridge, valueOf(h.Address), valueOf(h.LibvirtURI))
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(userData)
		return err
	}
	return fmt.Errorf("there is no host %s: register it with keelsond host add", name)
}

func valueOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
