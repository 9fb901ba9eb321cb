// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"errors"
	"fmt"

	"github.com/keelson/keelson/internal/model"
)

// Vault is where sealed secrets are kept: package store.
type Vault interface {
	// SealedTables are the tables that hold sealed secrets.
	SealedTables() []string
	// Sealed returns the secrets of a table in the order of their ids, those
	// above after, at most limit.
	Sealed(ctx context.Context, table string, after int64, limit int) ([]model.Sealed, error)
	// ReplaceSealed puts other bytes in the place of a secret's, unless they have
	// changed since s was read, or are gone.
	ReplaceSealed(ctx context.Context, s model.Sealed, sealed []byte) (replaced bool, err error)
}

// resealBatch is how many secrets are read at once.
const resealBatch = 200

// Reseal seals everything anew that was sealed with another key than the one
// that seals now. It may run beside processes that use the same secrets, and
// be cut off and run again: what is done stays done. progress is told after
// each batch how many secrets were looked at and how many of them sealed anew.
// What can not be opened is left alone and told in the error.
func (s *Sealer) Reseal(ctx context.Context, vault Vault, progress func(seen, resealed int)) error {
	seen, resealed := 0, 0
	var failures []error
	for _, table := range vault.SealedTables() {
		for after := int64(0); ; {
			batch, err := vault.Sealed(ctx, table, after, resealBatch)
			if err != nil {
				return err
			}
			for _, secret := range batch {
				after = secret.ID
				seen++
				if _, id, err := sealedWith(secret.Bytes); err == nil && id == s.KeyID() {
					continue
				}
				text, err := s.Open(secret.Bytes, secret.Context...)
				if err != nil {
					failures = append(failures, fmt.Errorf("row %d of %s: %w", secret.ID, table, err))
					continue
				}
				replaced, err := vault.ReplaceSealed(ctx, secret, s.Seal(text, secret.Context...))
				if err != nil {
					return err
				}
				if replaced {
					resealed++
				}
			}
			progress(seen, resealed)
			if len(batch) < resealBatch {
				break
			}
		}
	}
	if n := len(failures); n > 0 {
		return fmt.Errorf("%d secrets could not be opened, the first ones: %w", n, errors.Join(failures[:min(n, 5)]...))
	}
	return nil
}

// SealedWith counts the secrets by the id of the key that they are sealed with;
// an empty id is for what was not sealed by a Sealer.
func SealedWith(ctx context.Context, vault Vault) (map[string]int, error) {
	count := make(map[string]int)
	for _, table := range vault.SealedTables() {
		for after := int64(0); ; {
			batch, err := vault.Sealed(ctx, table, after, resealBatch)
			if err != nil {
				return nil, err
			}
			for _, secret := range batch {
				after = secret.ID
				_, id, _ := sealedWith(secret.Bytes)
				count[id]++
			}
			if len(batch) < resealBatch {
				break
			}
		}
	}
	return count, nil
}
