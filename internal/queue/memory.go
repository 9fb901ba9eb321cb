// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"fmt"
	"sync"
)

// memoryCapacity bounds the messages of a memory queue that are not yet
// acknowledged.
const memoryCapacity = 1024

// memory is a Queue within one process.
//
// room holds a token for each message from Publish to its end, so ready, which
// is as large, never fills up: a message can always be put back.
type memory struct {
	Options
	room   chan struct{}
	ready  chan memoryItem
	closed context.Context
	close  context.CancelFunc
}

type memoryItem struct {
	message  Message
	returned int // how often it was put back
}

func newMemory(o Options) *memory {
	m := &memory{Options: o, room: make(chan struct{}, memoryCapacity), ready: make(chan memoryItem, memoryCapacity)}
	m.closed, m.close = context.WithCancel(context.Background())
	return m
}

func (m *memory) Publish(ctx context.Context, messages ...Message) error {
	ctx, cancel := context.WithTimeout(ctx, m.PublishTimeout)
	defer cancel()
	for _, message := range messages {
		if m.closed.Err() != nil {
			return ErrClosed
		}
		select {
		case m.room <- struct{}{}:
			m.ready <- memoryItem{message: message}
		case <-m.closed.Done():
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("publishing to the full queue: %w", ctx.Err())
		}
	}
	return nil
}

func (m *memory) Consume(ctx context.Context, handle func(context.Context, *Delivery)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.closed, cancel)()

	var running sync.WaitGroup
	slots := make(chan struct{}, m.Parallel)
	for ctx.Err() == nil {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		select {
		case item := <-m.ready:
			running.Go(func() {
				defer func() { <-slots }()
				d := m.delivery(item)
				handle(ctx, d)
				d.finish(ctx, m.RedeliverAfter)
			})
		case <-ctx.Done():
		}
	}
	running.Wait()
	if m.closed.Err() != nil {
		return ErrClosed
	}
	return nil
}

func (m *memory) delivery(item memoryItem) *Delivery {
	return &Delivery{
		Message:     item.message,
		Redelivered: item.returned > 0,
		ack:         func() { <-m.room },
		release: func() {
			item.returned++
			if item.returned > deliveryLimit {
				m.Logger.Warn("message put aside: no conductor acknowledged it", "operation_id", item.message.Operation)
				<-m.room
				return
			}
			m.ready <- item
		},
	}
}

func (m *memory) Healthy() error {
	if m.closed.Err() != nil {
		return ErrClosed
	}
	return nil
}

func (m *memory) Close() error {
	m.close()
	return nil
}
