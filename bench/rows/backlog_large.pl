# Very large events that have waited. BACKLOG_LARGE_EVENTS=10000
use v5.36;

use Headgate::Bench::Backlog qw(backlog_row);

return backlog_row(events => $ENV{BACKLOG_LARGE_EVENTS} // 10_000, bytes => 262_144, unit => 'KiB');
