//! Days and moments, in UTC. Pure: the clock is read elsewhere.

use std::fmt;
use std::str::FromStr;

/// Seconds of a day; leap seconds do not count in Unix time.
const DAY: u64 = 86_400;

/// A day of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day {
    year: u32,
    month: u32,
    day: u32,
}

impl Day {
    /// The day so many seconds after 1970 began.
    pub fn at(seconds_since_1970: u64) -> Self {
        let (mut year, mut left) = (1970, seconds_since_1970 / DAY);
        // Bounded: no clock shows a year past 9999.
        while left >= days_of_year(year) && year < 9999 {
            left -= days_of_year(year);
            year += 1;
        }
        let mut month = 1;
        while left >= u64::from(days_of_month(year, month)) && month < 12 {
            left -= u64::from(days_of_month(year, month));
            month += 1;
        }
        let last = u64::from(days_of_month(year, month));
        let day = u32::try_from(left.min(last - 1) + 1).unwrap_or(1);
        Self { year, month, day }
    }
}

fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_year(year: u32) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of_month(year: u32, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no day; write it as 2027-03-31");
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts[..] else { return Err(wrong()) };
        if (year.len(), month.len(), day.len()) != (4, 2, 2) {
            return Err(wrong());
        }
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<u32>().map_err(|_| wrong()),
            false => Err(wrong()),
        };
        let (year, month, day) = (number(year)?, number(month)?, number(day)?);
        let is_day = (1..=12).contains(&month) && day >= 1 && day <= days_of_month(year, month);
        if is_day { Ok(Self { year, month, day }) } else { Err(wrong()) }
    }
}

impl From<Day> for toml::value::Datetime {
    fn from(day: Day) -> Self {
        let small = |number: u32| u8::try_from(number).unwrap_or(1);
        let date = toml::value::Date {
            year: u16::try_from(day.year).unwrap_or(u16::MAX),
            month: small(day.month),
            day: small(day.day),
        };
        date.into()
    }
}

/// So many seconds after 1970 began, as RFC 3339 writes it.
pub fn timestamp(seconds_since_1970: u64) -> String {
    let second = seconds_since_1970 % DAY;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{}T{hour:02}:{minute:02}:{:02}Z", Day::at(seconds_since_1970), second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_other_calendars() {
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_321_446, "2026-11-22T04:24:06Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, expected) in table {
            assert_eq!(timestamp(seconds), expected);
        }
        assert!(Day::at(u64::MAX) > Day::at(4_107_542_400));
    }

    #[test]
    fn a_day_is_read_as_it_is_written() {
        for text in ["2027-03-31", "2028-02-29"] {
            assert_eq!(text.parse::<Day>().map(|day| day.to_string()), Ok(text.to_owned()));
        }
        for text in
            ["2027-02-29", "2027-13-01", "2027-00-01", "27-01-01", "2027-1-1", "soon", "+027-01-01"]
        {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
    }
}
