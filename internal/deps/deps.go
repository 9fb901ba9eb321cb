//go:build deps

// Package deps keeps every chosen module in go.mod while the packages that use them are being written.
package deps

import (
	_ "github.com/cenkalti/backoff/v5"
	_ "github.com/databus23/goslo.policy"
	_ "github.com/evanphx/json-patch/v5"
	_ "github.com/glebarez/go-sqlite"
	_ "github.com/glebarez/sqlite"
	_ "github.com/go-gormigrate/gormigrate/v2"
	_ "github.com/go-sql-driver/mysql"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/google/uuid"
	_ "github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/allocations"
	_ "github.com/jedib0t/go-pretty/v6/table"
	_ "github.com/moby/moby/client"
	_ "github.com/prometheus/client_golang/prometheus"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/rabbitmq/amqp091-go"
	_ "github.com/spf13/cobra"
	_ "go.uber.org/goleak"
	_ "go.yaml.in/yaml/v3"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/time/rate"
	_ "gopkg.in/ini.v1"
	_ "gorm.io/driver/mysql"
	_ "gorm.io/gorm"
	_ "libvirt.org/go/libvirt"
	_ "libvirt.org/go/libvirtxml"
	_ "pgregory.net/rapid"
)
