# What webhooks cost that do not want an event: their types are others.
use v5.36;
use utf8;

use Headgate::Bench::Matching qw(matching_row);

return matching_row(
    name       => 'matching',
    which      => 'that do not match',
    changes    => q{events = iif(i % 2, '["order.other-' || i || '"]', '["shop-' || i || '.*"]')},
    conditions => ['half of the webhooks want one other type (order.other-N), half a pattern (shop-N.*); all of one organization, without filters'],
);
