// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"gorm.io/gorm/logger"
)

// queryLog is gorm's way to our log: slow statements as warnings, all others
// at debug level. Values are left out, some of them are sealed keys.
type queryLog struct {
	logger *slog.Logger
	slow   time.Duration
}

var _ logger.Interface = queryLog{}

// LogMode is gorm's own level, which we leave to slog.
func (l queryLog) LogMode(logger.LogLevel) logger.Interface { return l }

// Info logs what gorm wants to tell.
func (l queryLog) Info(ctx context.Context, format string, args ...any) {
	l.logger.DebugContext(ctx, fmt.Sprintf(format, args...))
}

// Warn logs what gorm warns of.
func (l queryLog) Warn(ctx context.Context, format string, args ...any) {
	l.logger.WarnContext(ctx, fmt.Sprintf(format, args...))
}

// Error logs what gorm could not do. It returns the error as well, so who
// called decides how bad it is.
func (l queryLog) Error(ctx context.Context, format string, args ...any) {
	l.logger.DebugContext(ctx, fmt.Sprintf(format, args...))
}

// Trace is called after each statement.
func (l queryLog) Trace(ctx context.Context, begin time.Time, statement func() (string, int64), err error) {
	took := time.Since(begin)
	level := slog.LevelDebug
	if took >= l.slow {
		level = slog.LevelWarn
	}
	if !l.logger.Enabled(ctx, level) {
		return
	}
	sql, rows := statement()
	message := "query"
	if level == slog.LevelWarn {
		message = "slow query"
	}
	l.logger.LogAttrs(ctx, level, message,
		slog.String("sql", sql), slog.Int64("rows", rows), slog.Duration("took", took), slog.Any("error", err))
}

// ParamsFilter keeps the values out of the statement.
func (l queryLog) ParamsFilter(_ context.Context, sql string, _ ...any) (string, []any) {
	return sql, nil
}
