# A strict reader of Prometheus' text format 0.0.4 and of OpenMetrics 1.0, as far as edge and sidecar use them. It refuses what
# `promtool check metrics` complains about, and that program is asked too where it is installed.
package Headgate::Metrics;
use v5.36;

my $NAME   = qr/[a-zA-Z_:][a-zA-Z0-9_:]*/;
my $LABEL  = qr/[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"/;
my $NUMBER = qr/\d+(?:\.\d+)?(?:e[+-]\d+)?/;
my %SUFFIX = (counter => '_total', info => '_info', gauge => '');

# Dies with the line at fault; otherwise {family => {type, help, samples => {labels => value}}}. Families keep the names
# of their samples: `x_total` in both formats.
sub parse ($class, $text, %args) {
    my $open = $args{openmetrics};
    die "the text does not end in a line feed\n" if $text !~ /\n\z/;
    my @lines = split /\n/, $text;
    if ($open) { pop(@lines) eq '# EOF' or die "the last line is not # EOF\n" }

    my (%families, %closed, $name, $current);
    for my $line (@lines) {
        my $bad = sub ($why) { die "$why: $line\n" };
        if ($line =~ /\A# HELP ($NAME) (\S.*)\z/) {
            $closed{$name} = 1 if defined $name;
            $name = $1;
            $bad->('a family comes twice') if $closed{$name};
            $current = { help => $2 };
            next;
        }
        if ($line =~ /\A# TYPE ($NAME) (counter|gauge|info|histogram)\z/) {
            $bad->('TYPE without HELP before it') if !defined $name || $1 ne $name || defined $current->{type};
            my $type = $current->{type} = $2;
            $bad->('info is a type of OpenMetrics only') if $type eq 'info' && !$open;
            my $sample_name = $name . ($open ? $SUFFIX{$type} // '' : '');
            $bad->('a counter does not end in _total') if $type eq 'counter' && $sample_name !~ /_total\z/;
            $bad->('what ends in _total is no counter') if $type ne 'counter' && $sample_name =~ /_total\z/;
            $families{$sample_name} = $current;
            $current->{name} = $sample_name;
            next;
        }
        $line =~ /\A($NAME)(?:\{((?:$LABEL)(?:,$LABEL)*)\})? ($NUMBER)\z/ or $bad->('not a line of the format');
        my ($sample, $labels, $value) = ($1, $2 // '', $3);
        if (($current->{type} // '') eq 'histogram' && $sample =~ /\A\Q$current->{name}\E_(bucket|sum|count)\z/) {
            _histogram($current, $1, $labels, $value, $bad);
            next;
        }
        $bad->('a sample outside its family') if !defined $current->{type} || $sample ne $current->{name};
        $bad->('a sample comes twice') if exists $current->{samples}{$labels};
        $current->{samples}{$labels} = $value;
    }
    for my $family (values %families) {
        die "no sample of $family->{name}\n" if !$family->{samples};
        die "a histogram without count, sum or +Inf: $family->{name}\n"
            if $family->{type} eq 'histogram' && !($family->{is_whole} && exists $family->{samples}{sum});
    }
    return \%families;
}

# One line of a histogram without labels of its own: buckets that ascend, the one for +Inf last and as large as the count.
sub _histogram ($current, $part, $labels, $value, $bad) {
    if ($part eq 'bucket') {
        my ($bound) = $labels =~ /\Ale="($NUMBER|\+Inf)"\z/ or $bad->('a bucket without a bound');
        my $last = $current->{buckets} ? $current->{buckets}[-1] : undef;
        $bad->('buckets do not ascend') if $last && ($last->[0] eq '+Inf' || $bound ne '+Inf' && $bound <= $last->[0] || $value < $last->[1]);
        push $current->{buckets}->@*, [$bound, $value];
        $current->{samples}{"le=$bound"} = $value;
    } else {
        $bad->("$part comes twice") if exists $current->{samples}{$part};
        $current->{samples}{$part} = $value;
    }
    my $last = $current->{buckets} && $current->{buckets}[-1];
    if ($last && $last->[0] eq '+Inf' && exists $current->{samples}{count}) {
        $bad->('the count is not what the buckets hold') if $current->{samples}{count} != $last->[1];
        $current->{is_whole} = 1;
    }
}

# What promtool says of the text, or undef where there is none.
sub promtool ($class, $file) {
    my ($promtool) = grep { -x } map { "$_/promtool" } split /:/, $ENV{PATH};
    return undef if !$promtool;
    my $said = `$promtool check metrics <\Q$file\E 2>&1`;
    return $? == 0 ? '' : "exit code $?: $said";
}

1;
