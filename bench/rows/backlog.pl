# Very many events that have waited. BACKLOG_EVENTS=1000000
use v5.36;

use Headgate::Bench::Backlog qw(backlog_row);

return backlog_row(events => $ENV{BACKLOG_EVENTS} // 1_000_000, bytes => 1024, unit => 'event');
