// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keelson/keelson/internal/keystone"
)

// Up shows 1 while healthy returns nil.
func (o *Observer) Up(name, help string, healthy func() error) {
	o.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, func() float64 {
		if healthy() != nil {
			return 0
		}
		return 1
	}))
}

// TokenCache shows how often the cache of tokens knew the answer.
func (o *Observer) TokenCache(lookups func() (hits, misses int64)) {
	for result, value := range map[string]func() float64{
		"hit":  func() float64 { hits, _ := lookups(); return float64(hits) },
		"miss": func() float64 { _, misses := lookups(); return float64(misses) },
	} {
		o.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: namespace, Name: "token_cache_lookups_total", Help: "Tokens that were looked up in the cache of tokens.",
			ConstLabels: prometheus.Labels{"result": result},
		}, value))
	}
}

// Keystone measures the validations that a client makes.
func (o *Observer) Keystone(next keystone.ExpiredValidator) keystone.ExpiredValidator {
	return measured{o, next}
}

type measured struct {
	*Observer
	next keystone.ExpiredValidator
}

func (m measured) Validate(ctx context.Context, token string) (*keystone.Token, error) {
	return m.measure(func() (*keystone.Token, error) { return m.next.Validate(ctx, token) })
}

func (m measured) ValidateExpired(ctx context.Context, token string) (*keystone.Token, error) {
	return m.measure(func() (*keystone.Token, error) { return m.next.ValidateExpired(ctx, token) })
}

func (m measured) measure(validate func() (*keystone.Token, error)) (*keystone.Token, error) {
	began := time.Now()
	token, err := validate()
	outcome := "valid"
	switch {
	case errors.Is(err, keystone.ErrInvalidToken):
		outcome = "refused"
	case err != nil:
		outcome = "unavailable"
	}
	m.keystoneSeconds.WithLabelValues(outcome).Observe(time.Since(began).Seconds())
	return token, err
}
